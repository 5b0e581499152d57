-- What audits found in a snapshot's loads before these were published, and what of it was accepted. Append-only. An
-- audit's row has its name; the row with the name '' is about the snapshot: may these loads be published?
-- outcome: passed, warned, held, accepted (an operator publishes it all the same).
CREATE TABLE IF NOT EXISTS {database}.sot_audits
(
    processing_date Date,
    window_days UInt16,
    recorded_at DateTime64(6, 'UTC'),
    audit LowCardinality(String),
    level LowCardinality(String),
    outcome LowCardinality(String),
    message String,
    figures String,
    parameters String,
    compared_with Array(Date),
    load_ids Map(String, UUID),
    row_counts Map(String, UInt64),
    manifest_sha256 String,
    source String,
    reason String,
    user String,
    host String,
    run_id String,
    pipeline_version String
)
ENGINE = MergeTree
ORDER BY (processing_date, window_days, recorded_at, audit)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
