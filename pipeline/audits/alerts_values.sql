-- Severities are of the four levels, confidences in 0..1, within `tolerance`, volumes in USD 0 or more, and the
-- evidence is a JSON object.
-- level: hold
-- message: raw_alerts: {rule} does not hold in {broken} of {rows} rows, for example by '{example}'
-- parameter tolerance = 0.000001
SELECT
    each.1 AS rule,
    each.2 AS broken,
    rows,
    leftUTF8(each.3, 40) AS example
FROM
(
    WITH
        severity NOT IN ('low', 'medium', 'high', 'critical') AS is_no_level,
        NOT alert_confidence_score BETWEEN -{tolerance:Float64} AND 1 + {tolerance:Float64} AS is_no_share,
        ifNull(JSONType(evidence_json), '') != 'Object' AS is_no_object
    SELECT
        count() AS rows,
        [
            ('severity in low, medium, high, critical', countIf(is_no_level), anyIf(severity, is_no_level)),
            (
                'alert_confidence_score in 0..1',
                countIf(is_no_share),
                toString(anyIf(alert_confidence_score, is_no_share))
            ),
            ('volume_usd >= 0', countIf(volume_usd < 0), toString(anyIf(volume_usd, volume_usd < 0))),
            ('evidence_json is an object', countIf(is_no_object), anyIf(evidence_json, is_no_object))
        ] AS rules
    FROM {raw_alerts}
)
ARRAY JOIN rules AS each
WHERE broken > 0
