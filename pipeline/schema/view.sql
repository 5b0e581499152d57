-- Rows of the loads that the innermost SELECT names (visible_….sql), one for each snapshot: what readers see of a table,
-- saw at a moment, or see of the newest day. Of two publications in the same microsecond all views choose the same one.
-- A query takes its snapshots of the tables in the order in which it comes upon them: those that its FROM names itself,
-- then those in subqueries of it, then those in its conditions. sot_publications must come before the loads: a load that
-- it names is then in the loads, while after loads without the newest one a publication could name rows that the query
-- does not see, and a date that was published again would be empty for a moment. Hence the JOIN, which adds nothing:
-- no publication is joined to any row. Of a join that keeps its right side in memory the rows must be the left one.
-- Only one algorithm can join on a constant, whichever a reader prefers.
-- A load belongs to one snapshot, so its id alone tells whether readers see it: of a row that they do not, PREWHERE reads
-- nothing else.
CREATE VIEW IF NOT EXISTS {database}.{view} AS
SELECT {columns_of_newest}
FROM
(
    SELECT {columns}
    FROM {database}.{loads}
    PREWHERE load_id IN
    (
        {visible}
    )
) AS newest
ANY LEFT JOIN {database}.sot_publications AS first ON 0
SETTINGS join_algorithm = 'hash'
