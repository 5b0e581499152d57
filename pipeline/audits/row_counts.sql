-- Each table has about as many rows as on the published days before: within a factor of `ratio` of their median or, for
-- few rows, within `distance` standard deviations, so that 40 alerts may not become 1, but 4 may become 1. The
-- deviation is that of a Poisson count or, where that is more, the days' own scatter around their median. No rule when
-- the nearest day has about as many, within the square root of the factor or half the distance: what was accepted
-- yesterday is not held today. For each week without a published day the factor grows by `weekly`. With fewer than
-- `fewest_days` days the one rule is that a day that is published again has not too few rows. Of a table without rows
-- see empty_table.
-- level: hold
-- message: {table} has a row count of {rows}, expected {least} to {most}: {median} is the median of the published days
--     (days: {days}, {first} to {last})
-- parameter ratio = 3
-- parameter distance = 5
-- parameter weekly = 1.5
-- parameter fewest_days = 3
WITH
    {ratio:Float64} * pow({weekly:Float64}, greatest(gap - 1, 0) / 7) AS factor,
    -- Square roots of Poisson counts have about the same deviation, a half, whatever the counts are.
    {distance:Float64} * greatest(0.5, scatter) AS far
SELECT
    now.table AS table,
    now.rows AS rows,
    median,
    days,
    first,
    last,
    ceil(least(median / factor, pow(greatest(sqrt(median) - far, 0), 2))) AS least,
    floor(greatest(median * factor, pow(sqrt(median) + far, 2))) AS most,
    rows > 0
        AND (days >= {fewest_days:Float64} OR is_anew AND rows < least)
        AND rows NOT BETWEEN least AND most
        AND rows NOT BETWEEN least(nearest / sqrt(factor), pow(greatest(sqrt(nearest) - far / 2, 0), 2))
            AND greatest(nearest * sqrt(factor), pow(sqrt(nearest) + far / 2, 2)) AS wrong
FROM {row_counts} AS now
INNER JOIN
(
    SELECT
        table,
        count() AS days,
        min(processing_date) AS first,
        max(processing_date) AS last,
        max(processing_date = {processing_date:Date}) AS is_anew,
        minIf(abs(dateDiff('day', processing_date, {processing_date:Date})), processing_date != {processing_date:Date})
            AS gap,
        argMin(rows, abs(dateDiff('day', processing_date, {processing_date:Date}))) AS nearest,
        quantileExactInclusive(0.5)(rows) AS median,
        1.4826 * arrayReduce('median', arrayMap(x -> abs(sqrt(x) - sqrt(median)), groupArray(rows))) AS scatter
    FROM {row_counts_before}
    GROUP BY table
) AS before ON before.table = now.table
