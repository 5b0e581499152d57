-- The ledger: every attempt to load a file into a table, and what became of it. Append-only: the newest row of a
-- load_id counts. state: started, loaded (rows counted and compared), failed, forgotten (an operator asked to load
-- again), compared (loaded by verify --deep to be compared with published rows, and dropped),
-- collected (by gc: no publication may name it, its rows are dropped).
CREATE TABLE IF NOT EXISTS {database}.sot_table_loads
(
    processing_date Date,
    window_days UInt16,
    table_name LowCardinality(String),
    load_id UUID,
    state LowCardinality(String),
    recorded_at DateTime64(6, 'UTC'),
    started_at DateTime64(6, 'UTC'),
    manifest_sha256 String,
    file_name String,
    file_sha256 String,
    file_bytes UInt64,
    proof LowCardinality(String),
    superseded_by String,
    row_count UInt64,
    content_digest String,
    source String,
    host String,
    pipeline_version String,
    error String
)
ENGINE = MergeTree
ORDER BY (processing_date, window_days, table_name, load_id, recorded_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
