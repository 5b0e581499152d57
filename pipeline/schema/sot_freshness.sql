-- How old the newest published date of each window is. A date is over at 00:00 UTC of the next one.
CREATE VIEW IF NOT EXISTS {database}.sot_freshness AS
SELECT
    window_days,
    max(day) AS processing_date,
    argMax(moment, day) AS published_at,
    round(dateDiff('second', toDateTime(max(day) + 1, 'UTC'), now('UTC')) / 3600, 2) AS age_hours,
    count() AS published_dates
FROM
(
    SELECT
        window_days,
        processing_date AS day,
        max(published_at) AS moment,
        argMax(toString(action), (published_at, mapValues(load_ids))) AS what
    FROM {database}.sot_publications{where_whole}
    GROUP BY
        window_days,
        day
    HAVING what != 'retire'
)
GROUP BY window_days
SETTINGS
    {whole_answer}
