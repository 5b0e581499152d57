-- What readers see of a table: the rows of the load that the newest publication of each snapshot names. Of two
-- publications in the same microsecond all four views choose the same one.
-- A query takes its snapshots of the tables in the order in which it comes upon them. sot_publications must be the
-- first: a load that it names is then in the loads, while after loads without the newest one a publication could
-- name rows that the query does not see, and a date that was published again would be empty for a moment.
-- A load belongs to one snapshot, so its id alone tells whether readers see it: of a row that they do not, PREWHERE reads
-- nothing else.
CREATE VIEW IF NOT EXISTS {database}.{view} AS
SELECT {columns}
FROM (SELECT 1 AS published FROM {database}.sot_publications LIMIT 1) AS first
CROSS JOIN
(
    SELECT {columns}
    FROM {database}.{loads}
    PREWHERE load_id IN
    (
        SELECT argMax(load_ids['{view}'], (published_at, mapValues(load_ids)))
        FROM {database}.sot_publications
        GROUP BY
            processing_date,
            window_days
    )
) AS newest
