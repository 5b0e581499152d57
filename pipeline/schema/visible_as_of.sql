SELECT argMax({load_if_whole}, (published_at, mapValues(load_ids)))
        FROM {database}.sot_publications
        WHERE published_at <= {at:DateTime64(6, 'UTC')}
        GROUP BY
            processing_date,
            window_days
