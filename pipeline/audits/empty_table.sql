-- A table without a row that had rows on each of the days before, of which there must be enough to say what is usual.
-- level: hold
-- message: {table} has no row, and had {least} to {most} on each of the {days} published days before
-- parameter fewest_days = 3
SELECT
    now.table AS table,
    before.least AS least,
    before.most AS most,
    before.days AS days,
    now.rows = 0 AND before.days >= {fewest_days:UInt8} AND before.least > 0 AS wrong
FROM {row_counts} AS now
INNER JOIN
(
    SELECT
        table,
        min(rows) AS least,
        max(rows) AS most,
        count() AS days
    FROM {row_counts_before}
    GROUP BY table
) AS before USING (table)
