-- What readers see: the rows of the load that the newest publication of each snapshot names. Of two publications in
-- the same microsecond all four views choose the same one.
CREATE VIEW IF NOT EXISTS {database}.raw_address_labels AS
SELECT
    processing_date,
    window_days,
    network,
    address,
    label,
    network_type,
    address_type,
    address_subtype,
    risk_level,
    confidence_score,
    trust_level,
    source
FROM {database}.raw_address_labels_loads
WHERE (processing_date, window_days, load_id) IN
(
    SELECT
        processing_date,
        window_days,
        argMax(load_ids['raw_address_labels'], (published_at, mapValues(load_ids)))
    FROM {database}.sot_publications
    GROUP BY
        processing_date,
        window_days
)
