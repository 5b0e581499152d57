-- Risks are of the four levels, confidences in 0..1, within `tolerance`.
-- level: hold
-- message: raw_address_labels: {rule} does not hold in {broken} of {rows} rows, for example by '{example}'
-- parameter tolerance = 0.000001
SELECT
    each.1 AS rule,
    each.2 AS broken,
    rows,
    leftUTF8(each.3, 40) AS example
FROM
(
    WITH
        risk_level NOT IN ('low', 'medium', 'high', 'critical') AS is_no_level,
        NOT confidence_score BETWEEN -{tolerance:Float64} AND 1 + {tolerance:Float64} AS is_no_share
    SELECT
        count() AS rows,
        [
            ('risk_level in low, medium, high, critical', countIf(is_no_level), anyIf(risk_level, is_no_level)),
            ('confidence_score in 0..1', countIf(is_no_share), toString(anyIf(confidence_score, is_no_share)))
        ] AS rules
    FROM {raw_address_labels}
)
ARRAY JOIN rules AS each
WHERE broken > 0
