-- One row a publication, for all four tables at once. Append-only: the newest row of a snapshot counts.
CREATE TABLE IF NOT EXISTS {database}.sot_publications
(
    processing_date Date,
    window_days UInt16,
    manifest_sha256 String,
    load_ids Map(String, UUID),
    row_counts Map(String, UInt64),
    source String,
    published_at DateTime64(6, 'UTC'),
    published_by String,
    pipeline_version String
)
ENGINE = MergeTree
ORDER BY (processing_date, window_days, published_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
