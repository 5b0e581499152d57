SELECT publication_id
            FROM {database}.sot_publications
            ARRAY JOIN
                mapKeys(load_ids) AS named_table,
                mapValues(load_ids) AS named_load
            WHERE row_counts[named_table] > 0
                AND (named_load, row_counts[named_table]) NOT IN
                (
                    {counted}
                )
