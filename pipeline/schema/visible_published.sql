SELECT argMax(load_ids['{table}'], (published_at, mapValues(load_ids)))
        FROM {database}.sot_publications{where_whole}
        GROUP BY
            processing_date,
            window_days
