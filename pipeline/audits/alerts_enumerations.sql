-- Typologies and suspected address types are those that upstream knows, or that the nearest published day had, too.
-- level: warn
-- message: raw_alerts.{column} is '{value}' (rows: {rows}): upstream has no such value, nor had the nearest published
--     day
SELECT
    each.1 AS column,
    each.2 AS value,
    sum(count) AS rows
FROM
(
    SELECT
        typology_type,
        suspected_address_type,
        count() AS count
    FROM {raw_alerts}
    GROUP BY
        typology_type,
        suspected_address_type
)
ARRAY JOIN [('typology_type', typology_type), ('suspected_address_type', suspected_address_type)] AS each
WHERE each NOT IN
    (
        SELECT arrayJoin([('typology_type', typology_type), ('suspected_address_type', suspected_address_type)])
        FROM (SELECT DISTINCT typology_type, suspected_address_type FROM {raw_alerts_nearest})
    )
    AND value NOT IN (
        'PEEL_CHAIN', 'STRUCTURING', 'RAPID_FANOUT', 'VELOCITY_ANOMALY', 'FRESH_TO_EXCHANGE', 'CYCLE_DETECTION',
        'LAYERING_PATH', 'SMURFING_NETWORK', 'MOTIF_FANIN', 'MOTIF_FANOUT', 'PING_PONG', 'PROXIMITY_RISK',
        'HUB_ANOMALY', 'MIXING_BEHAVIOR', 'INTRADAY_STRUCTURING', 'TIME_BASED_PATTERN', 'wallet', 'merchant',
        'institutional', 'unknown'
    )
GROUP BY each
