-- Severities are of the four levels, confidences in 0..1, within `tolerance`, and volumes in USD 0 or more.
-- level: hold
-- message: raw_clusters: {rule} does not hold in {broken} of {rows} rows, for example by '{example}'
-- parameter tolerance = 0.000001
SELECT
    each.1 AS rule,
    each.2 AS broken,
    rows,
    leftUTF8(each.3, 40) AS example
FROM
(
    WITH
        severity_max NOT IN ('low', 'medium', 'high', 'critical') AS is_no_level,
        NOT confidence_avg BETWEEN -{tolerance:Float64} AND 1 + {tolerance:Float64} AS is_no_share
    SELECT
        count() AS rows,
        [
            ('severity_max in low, medium, high, critical', countIf(is_no_level), anyIf(severity_max, is_no_level)),
            ('confidence_avg in 0..1', countIf(is_no_share), toString(anyIf(confidence_avg, is_no_share))),
            (
                'total_volume_usd >= 0',
                countIf(total_volume_usd < 0),
                toString(anyIf(total_volume_usd, total_volume_usd < 0))
            )
        ] AS rules
    FROM {raw_clusters}
)
ARRAY JOIN rules AS each
WHERE broken > 0
