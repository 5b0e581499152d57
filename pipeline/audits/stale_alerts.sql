-- Alerts are no copy of those of the nearest other day that is published: less than the share `share` have the address,
-- typology, confidence, volume and evidence of one of its alerts. No rule with fewer than `rows` alerts: nothing new on
-- a quiet day is believable.
-- level: warn
-- message: raw_alerts: {equal} of {rows} alerts are as on {nearest} but for their ids, expected fewer than {most}
-- parameter share = 1
-- parameter rows = 20
WITH
    (SELECT processing_date FROM {days_before} WHERE processing_date != {processing_date:Date} LIMIT 1) AS nearest
SELECT
    count() AS rows,
    countIf(digest IN
    (
        SELECT cityHash64(address, typology_type, alert_confidence_score, volume_usd, evidence_json)
        FROM {raw_alerts_before}
        WHERE processing_date = nearest
    )) AS equal,
    ceil({share:Float64} * rows) AS most,
    nearest,
    rows >= {rows:Float64} AND equal >= most AS wrong
FROM
(
    SELECT cityHash64(address, typology_type, alert_confidence_score, volume_usd, evidence_json) AS digest
    FROM {raw_alerts}
)
