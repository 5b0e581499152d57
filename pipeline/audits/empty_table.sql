-- A table that usually has rows has some: one of which the published days had `rows` or more, by their median, and the
-- nearest day not none. Of labels one row is enough: they are a list, not counts of what happened. No rule with fewer
-- than `fewest_days` days, unless the day is published again.
-- level: hold
-- message: {table} has no rows, expected some: {median} is the median of the published days (days: {days})
-- parameter rows = 8
-- parameter fewest_days = 3
SELECT
    now.table AS table,
    now.rows AS found,
    before.days AS days,
    before.median AS median,
    now.rows = 0
        AND (before.days >= {fewest_days:Float64} OR before.is_anew)
        AND before.median >= if(now.table = 'raw_address_labels', 1, {rows:Float64})
        AND before.nearest > 0 AS wrong
FROM {row_counts} AS now
INNER JOIN
(
    SELECT
        table,
        count() AS days,
        max(processing_date = {processing_date:Date}) AS is_anew,
        quantileExactInclusive(0.5)(rows) AS median,
        argMin(rows, abs(dateDiff('day', processing_date, {processing_date:Date}))) AS nearest
    FROM {row_counts_before}
    GROUP BY table
) AS before ON before.table = now.table
