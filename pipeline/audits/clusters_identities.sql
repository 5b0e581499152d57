-- What upstream's code makes true of each cluster: it is of a kind that upstream knows, of two alerts or more, which
-- are all in raw_alerts, the primary one among them; one of a single entity has a single address.
-- level: warn
-- message: raw_clusters: {rule} does not hold in {broken} of {rows} rows
SELECT
    each.1 AS rule,
    each.2 AS broken,
    rows
FROM
(
    WITH
        cluster_type NOT IN ('same_entity', 'same_pattern', 'related_network', 'time_based') AS is_unknown,
        total_alerts != length(related_alert_ids) AS is_miscounted,
        cluster_type = 'same_entity' AND length(addresses_involved) != 1 AS is_no_entity,
        earliest_alert_timestamp > latest_alert_timestamp AS is_reversed,
        cluster_id IN
        (
            SELECT cluster_id
            FROM {raw_clusters}
            ARRAY JOIN related_alert_ids AS alert
            WHERE alert NOT IN (SELECT alert_id FROM {raw_alerts})
        ) AS is_dangling
    SELECT
        count() AS rows,
        [
            ('cluster_type in same_entity, same_pattern, related_network, time_based', countIf(is_unknown)),
            ('total_alerts >= 2', countIf(total_alerts < 2)),
            ('total_alerts = length of related_alert_ids', countIf(is_miscounted)),
            ('primary_alert_id in related_alert_ids', countIf(NOT has(related_alert_ids, primary_alert_id))),
            ('related_alert_ids in raw_alerts', countIf(is_dangling)),
            ('one address in addresses_involved of same_entity', countIf(is_no_entity)),
            ('earliest_alert_timestamp <= latest_alert_timestamp', countIf(is_reversed))
        ] AS rules
    FROM {raw_clusters}
)
ARRAY JOIN rules AS each
WHERE broken > 0
