-- No score and no amount of raw_features has one value in far more rows than on the nearest published day, judged by
-- the first `sample` addresses of both, in their order: one value in the share `share` or more, while other values, of
-- which `rows` or more were to be expected, are `ratio` times rarer. Nor is it NaN in more rows than then, by the share
-- `nan_share` and by `rows`.
-- level: hold
-- message: raw_features.{column} is {value} in {found} of the first {rows} rows, expected at most {most}, judged by
--     {nearest}
-- parameter sample = 4000
-- parameter share = 0.9
-- parameter ratio = 10
-- parameter rows = 20
-- parameter nan_share = 0.2
WITH
    [
        'total_in_usd', 'total_out_usd', 'total_volume_usd', 'amount_variance', 'amount_skewness', 'amount_kurtosis',
        'volume_std', 'volume_cv', 'flow_concentration', 'regularity_score', 'burst_factor', 'reciprocity_ratio',
        'flow_diversity', 'counterparty_concentration', 'concentration_ratio', 'velocity_score', 'structuring_score',
        'asset_diversity_score', 'hourly_entropy', 'daily_entropy', 'weekend_transaction_ratio',
        'night_transaction_ratio', 'small_transaction_ratio', 'consistency_score', 'pagerank', 'betweenness',
        'closeness', 'clustering_coefficient', 'centrality_score', 'flow_reciprocity_entropy',
        'counterparty_stability', 'flow_burstiness', 'transaction_regularity', 'amount_predictability',
        'behavioral_anomaly_score', 'graph_anomaly_score', 'neighborhood_anomaly_score', 'global_anomaly_score',
        'suspicious_pattern_score', 'completeness_score', 'quality_score', 'outlier_score', 'confidence_score'
    ] AS columns
SELECT
    column,
    if(too_many_nans, 'NaN', toString(frequent)) AS value,
    if(too_many_nans, nans, alike) AS found,
    rows,
    floor(if(too_many_nans, most_nans, most_alike)) AS most,
    (SELECT processing_date FROM {days_before} LIMIT 1) AS nearest,
    nans > most_nans AS too_many_nans,
    too_many_nans OR alike > most_alike AS wrong
FROM
(
    SELECT
        column,
        sumIf(count, is_candidate) AS rows,
        maxIf(count, is_candidate) AS alike,
        argMaxIf(value, count, is_candidate) AS frequent,
        sumIf(count, is_candidate AND isNaN(value)) AS nans,
        sumIf(count, NOT is_candidate) AS rows_before,
        rows * (1 - maxIf(count, NOT is_candidate) / rows_before) AS others,
        sumIf(count, NOT is_candidate AND isNaN(value)) / rows_before AS nans_before,
        rows * (nans_before + {nan_share:Float64}) + {rows:Float64} AS most_nans,
        greatest({share:Float64} * rows, rows - if(others < {rows:Float64}, 0, others / {ratio:Float64})) AS most_alike
    FROM
    (
        SELECT
            is_candidate,
            column,
            value,
            count() AS count
        FROM
        (
            SELECT true AS is_candidate, * FROM {raw_features} ORDER BY address LIMIT {sample:UInt32}
            UNION ALL
            SELECT false, * FROM {raw_features_nearest} ORDER BY address LIMIT {sample:UInt32}
        )
        ARRAY JOIN
            columns AS column,
            [
                toFloat64(total_in_usd), toFloat64(total_out_usd), toFloat64(total_volume_usd), amount_variance,
                amount_skewness, amount_kurtosis, volume_std, volume_cv, flow_concentration, regularity_score,
                burst_factor, reciprocity_ratio, flow_diversity, counterparty_concentration, concentration_ratio,
                velocity_score, structuring_score, asset_diversity_score, hourly_entropy, daily_entropy,
                weekend_transaction_ratio, night_transaction_ratio, small_transaction_ratio, consistency_score,
                pagerank, betweenness, closeness, clustering_coefficient, centrality_score, flow_reciprocity_entropy,
                counterparty_stability, flow_burstiness, transaction_regularity, amount_predictability,
                behavioral_anomaly_score, graph_anomaly_score, neighborhood_anomaly_score, global_anomaly_score,
                suspicious_pattern_score, completeness_score, quality_score, outlier_score, confidence_score
            ] AS value
        GROUP BY
            is_candidate,
            column,
            value
    )
    GROUP BY column
    HAVING rows_before > 0
)
ORDER BY found / most DESC
LIMIT 1 BY if(wrong, column, '')  -- of those that passed, the one nearest to its bound
