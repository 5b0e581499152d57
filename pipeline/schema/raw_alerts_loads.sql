-- Sort order: readers looked alerts up by alert_id. The constants of a partition (date, window) add nothing to it.
-- Kept: a bloom filter on address and on pattern_id, which point look-ups and joins use and the order does not serve.
-- Left out, because no granule could be skipped by them: minmax and set on processing_date and window_days (the
-- partition key prunes), bloom filters on severity, typology_type, pattern_type and the suspected address types (a
-- handful of values, each in every granule) and on alert_id (the primary key).
-- No column has a default: a file that lacks a column is refused.
CREATE TABLE IF NOT EXISTS {database}.raw_alerts_loads
(
    window_days UInt16,
    processing_date Date,
    alert_id String,
    address String,
    typology_type String,
    pattern_id String,
    pattern_type String,
    severity String,
    suspected_address_type String,
    suspected_address_subtype String,
    alert_confidence_score Float32,
    description String,
    volume_usd Decimal(38, 18),
    evidence_json String,
    risk_indicators Array(String),
    created_at DateTime,
    load_id UUID,
    INDEX idx_address address TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_pattern_id pattern_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY (processing_date, window_days, load_id)
ORDER BY (alert_id, typology_type)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
