-- Features are no copy of those of the nearest other day that is published: of the first `sample` addresses, in their
-- order, less than the share `share` have its value in every column but the date. No rule with fewer than `rows` of
-- them.
-- level: hold
-- message: raw_features: {equal} of the first {rows} addresses have all values of {nearest}, expected fewer than
--     {most}
-- parameter sample = 1000
-- parameter share = 1
-- parameter rows = 10
WITH
    (SELECT processing_date FROM {days_before} WHERE processing_date != {processing_date:Date} LIMIT 1) AS nearest
SELECT
    count() AS rows,
    countIf(digest IN
    (
        SELECT cityHash64(* EXCEPT (processing_date, window_days, created_at))
        FROM {raw_features_before}
        WHERE processing_date = nearest
        ORDER BY address
        LIMIT {sample:UInt32}
    )) AS equal,
    ceil({share:Float64} * rows) AS most,
    nearest,
    rows >= {rows:Float64} AND equal >= most AS wrong
FROM
(
    SELECT cityHash64(* EXCEPT (processing_date, window_days, created_at)) AS digest
    FROM {raw_features}
    ORDER BY address
    LIMIT {sample:UInt32}
)
