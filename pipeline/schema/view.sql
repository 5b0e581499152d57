-- Rows of the loads that the innermost SELECT names (visible_….sql), one for each snapshot: what readers see of a table,
-- saw at a moment, or see of the newest day. Of two publications in the same microsecond all views choose the same one.
-- A query takes its snapshots of the tables in the order in which it comes upon them: those that its FROM names itself,
-- then those in subqueries of it, then those in its conditions. sot_publications must come before the loads: a load that
-- it names is then in the loads, while after loads without the newest one a publication could name rows that the query
-- does not see, and a date that was published again would be empty for a moment. Hence the JOIN, which adds nothing:
-- no publication is joined to any row. Of a join that keeps its right side in memory the rows must be the left one.
-- Only one algorithm can join on a constant, whichever a reader prefers.
-- Settings of a reader's profile must not make fewer rows of these: limits of a set or a join are none here, what is cut
-- is an error, and rows are read as they are stored. A limit of what a query may read stays the reader's own.
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
SETTINGS
    join_algorithm = 'hash',
    max_rows_in_set = 0,
    max_bytes_in_set = 0,
    set_overflow_mode = 'throw',
    max_rows_in_join = 0,
    max_bytes_in_join = 0,
    join_overflow_mode = 'throw',
    {whole_answer}
