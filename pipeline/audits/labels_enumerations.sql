-- Network types and trust levels are those that upstream knows, or that the nearest published day had, too.
-- level: warn
-- message: raw_address_labels.{column} is '{value}' (rows: {rows}): upstream has no such value, nor had the nearest
--     published day
SELECT
    each.1 AS column,
    each.2 AS value,
    sum(count) AS rows
FROM
(
    SELECT
        network_type,
        trust_level,
        count() AS count
    FROM {raw_address_labels}
    GROUP BY
        network_type,
        trust_level
)
ARRAY JOIN [('network_type', network_type), ('trust_level', trust_level)] AS each
WHERE each NOT IN
    (
        SELECT arrayJoin([('network_type', network_type), ('trust_level', trust_level)])
        FROM (SELECT DISTINCT network_type, trust_level FROM {raw_address_labels_nearest})
    )
    AND value NOT IN (
        '', 'substrate', 'evm', 'utxo', 'official', 'verified', 'community', 'unverified', 'blacklisted'
    )
GROUP BY each
