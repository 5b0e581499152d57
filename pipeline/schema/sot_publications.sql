-- One row a publication, for all tables at once. Append-only: the newest row of a snapshot counts.
-- action: publish (a run), rollback (an operator brought an older one back), retire
-- (past its retention: names no load).
-- The window makes ClickHouse refuse a second INSERT with the same token, which is how of two publications that
-- follow upon the same one a single one takes effect.
CREATE TABLE IF NOT EXISTS {database}.sot_publications
(
    processing_date Date,
    window_days UInt16,
    publication_id UUID,
    action LowCardinality(String),
    manifest_sha256 String,
    load_ids Map(String, UUID),
    row_counts Map(String, UInt64),
    source String,
    published_at DateTime64(6, 'UTC'),
    published_by String,
    run_id String,
    pipeline_version String
)
ENGINE = MergeTree
ORDER BY (processing_date, window_days, published_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 1000
