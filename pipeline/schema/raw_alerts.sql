-- What readers see: the rows of the load that the newest publication of each snapshot names. Of two publications in
-- the same microsecond all four views choose the same one.
CREATE VIEW IF NOT EXISTS {database}.raw_alerts AS
SELECT
    window_days,
    processing_date,
    alert_id,
    address,
    typology_type,
    pattern_id,
    pattern_type,
    severity,
    suspected_address_type,
    suspected_address_subtype,
    alert_confidence_score,
    description,
    volume_usd,
    evidence_json,
    risk_indicators,
    created_at
FROM {database}.raw_alerts_loads
WHERE (processing_date, window_days, load_id) IN
(
    SELECT
        processing_date,
        window_days,
        argMax(load_ids['raw_alerts'], (published_at, mapValues(load_ids)))
    FROM {database}.sot_publications
    GROUP BY
        processing_date,
        window_days
)
