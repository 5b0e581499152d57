-- No confidence or volume of raw_clusters is in far more rows than on the nearest published day, judged by the first
-- `sample` clusters of both, in the order of their ids: one value in the share `share` or more, while other values, of
-- which `rows` or more were to be expected, are `ratio` times rarer. No rule when that day has fewer than `rows`
-- clusters.
-- level: hold
-- message: raw_clusters.{column} is '{value}' in {found} of the first {rows} rows, expected at most {most},
--     judged by {nearest}
-- parameter sample = 4000
-- parameter share = 0.9
-- parameter ratio = 10
-- parameter rows = 20
SELECT
    column,
    frequent AS value,
    found,
    rows,
    floor(most_alike) AS most,
    (SELECT processing_date FROM {days_before} LIMIT 1) AS nearest,
    rows_before >= {rows:Float64} AND found > most_alike AS wrong
FROM
(
    SELECT
        column,
        sumIf(count, is_candidate) AS rows,
        maxIf(count, is_candidate) AS found,
        argMaxIf(value, count, is_candidate) AS frequent,
        sumIf(count, NOT is_candidate) AS rows_before,
        rows * (1 - maxIf(count, NOT is_candidate) / rows_before) AS others,
        greatest({share:Float64} * rows, rows - if(others < {rows:Float64}, 0, others / {ratio:Float64})) AS most_alike
    FROM
    (
        SELECT
            is_candidate,
            each.1 AS column,
            each.2 AS value,
            count() AS count
        FROM
        (
            SELECT true AS is_candidate, confidence_avg, total_volume_usd
            FROM {raw_clusters}
            ORDER BY cluster_id
            LIMIT {sample:UInt32}
            UNION ALL
            SELECT false, confidence_avg, total_volume_usd
            FROM {raw_clusters_nearest}
            ORDER BY cluster_id
            LIMIT {sample:UInt32}
        )
        ARRAY JOIN
            [
                ('confidence_avg', toString(confidence_avg)),
                ('total_volume_usd', toString(total_volume_usd))
            ] AS each
        GROUP BY
            is_candidate,
            column,
            value
    )
    GROUP BY column
    HAVING rows_before > 0
)
