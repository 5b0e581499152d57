-- Sort order: readers filtered by cluster_type, then looked up cluster_id, as before.
-- Kept: bloom filters on cluster_id (not a prefix of the order), primary_address and primary_alert_id.
-- Left out, because no granule could be skipped by them: minmax and set on processing_date and window_days (the
-- partition key prunes), bloom filters on cluster_type (leads the order), severity_max and pattern_id (a handful of
-- values, each in every granule).
-- No column has a default: a file that lacks a column is refused.
CREATE TABLE IF NOT EXISTS {database}.raw_clusters_loads
(
    window_days UInt16,
    processing_date Date,
    cluster_id String,
    cluster_type String,
    primary_address String,
    pattern_id String,
    primary_alert_id String,
    related_alert_ids Array(String),
    addresses_involved Array(String),
    total_alerts UInt32,
    total_volume_usd Decimal(38, 18),
    severity_max String,
    confidence_avg Float32,
    earliest_alert_timestamp UInt64,
    latest_alert_timestamp UInt64,
    created_at DateTime,
    load_id UUID,
    INDEX idx_cluster_id cluster_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_primary_address primary_address TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_primary_alert_id primary_alert_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY (processing_date, window_days, load_id)
ORDER BY (cluster_type, cluster_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
