SELECT argMax(load_id, processing_date)
        FROM
        (
            SELECT
                processing_date,
                argMax((load_ids['{table}'], action), (published_at, mapValues(load_ids))) AS visible,
                visible.1 AS load_id
            FROM {database}.sot_publications
            WHERE window_days = {default_window}{and_whole}
            GROUP BY processing_date
            HAVING visible.2 != 'retire'
        )
