-- Each date and window as readers see it: the newest publication, its rows by table, and since when.
CREATE VIEW IF NOT EXISTS {database}.sot_snapshots AS
SELECT
    processing_date,
    window_days,
    transform(
        argMax(what, place), ['publish', 'rollback', 'retire'], ['published', 'rolled back', 'retired'], 'unknown'
    ) AS state,
    argMax(counts, place)['raw_alerts'] AS alerts,
    argMax(counts, place)['raw_features'] AS features,
    argMax(counts, place)['raw_clusters'] AS clusters,
    argMax(counts, place)['raw_address_labels'] AS address_labels,
    max(moment) AS published_at,
    dateDiff('second', max(moment), now64(6, 'UTC')) AS age_seconds,
    argMax(manifest, place) AS manifest_sha256,
    argMax(id, place) AS publication_id,
    uniqExact(id) AS publications
FROM
(
    SELECT
        processing_date,
        window_days,
        toString(action) AS what,
        row_counts AS counts,
        published_at AS moment,
        manifest_sha256 AS manifest,
        publication_id AS id,
        (published_at, mapValues(load_ids)) AS place
    FROM {database}.sot_publications
    WHERE publication_id != toUUID('ffffffff-ffff-ffff-ffff-ffffffffffff'){and_whole}  -- no publication: see gc
)
GROUP BY
    processing_date,
    window_days
SETTINGS
    {whole_answer}
