-- Sort order: readers looked labels up by address. The constants of a partition (date, window, network) add nothing.
-- Left out, because no granule could be skipped by them: minmax and set on processing_date and window_days (the
-- partition key prunes), bloom filters on network (one a database), address (the primary key) and risk_level (a
-- handful of values, each in every granule).
-- No column has a default: a file that lacks a column is refused.
CREATE TABLE IF NOT EXISTS {database}.raw_address_labels_loads
(
    processing_date Date,
    window_days UInt16,
    network String,
    address String,
    label String,
    network_type String,
    address_type String,
    address_subtype String,
    risk_level String,
    confidence_score Float32,
    trust_level String,
    source String,
    load_id UUID
)
ENGINE = MergeTree
PARTITION BY (processing_date, window_days, load_id)
ORDER BY (address, label)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
