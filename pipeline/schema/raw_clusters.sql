-- What readers see: the rows of the load that the newest publication of each snapshot names. Of two publications in
-- the same microsecond all four views choose the same one.
CREATE VIEW IF NOT EXISTS {database}.raw_clusters AS
SELECT
    window_days,
    processing_date,
    cluster_id,
    cluster_type,
    primary_address,
    pattern_id,
    primary_alert_id,
    related_alert_ids,
    addresses_involved,
    total_alerts,
    total_volume_usd,
    severity_max,
    confidence_avg,
    earliest_alert_timestamp,
    latest_alert_timestamp,
    created_at
FROM {database}.raw_clusters_loads
WHERE (processing_date, window_days, load_id) IN
(
    SELECT
        processing_date,
        window_days,
        argMax(load_ids['raw_clusters'], (published_at, mapValues(load_ids)))
    FROM {database}.sot_publications
    GROUP BY
        processing_date,
        window_days
)
