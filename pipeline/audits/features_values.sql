-- Amounts in USD are 0 or more (the net flow alone may be negative), the seventeen scores and shares are in 0..1,
-- within `tolerance`, and no NaN, each address has a transfer, and the two histograms have 24 and 7 entries whose sum
-- is at most the number of all transfers.
-- level: hold
-- message: raw_features: {rule} does not hold in {broken} of {rows} rows, for example by '{example}'
-- parameter tolerance = 0.000001
WITH
    (amount -> amount < 0) AS is_negative,
    (score -> NOT score BETWEEN -{tolerance:Float64} AND 1 + {tolerance:Float64}) AS is_no_share
SELECT
    each.1 AS rule,
    count() AS broken,
    any(each.2) AS example,
    (SELECT max(rows) FROM {row_counts} WHERE table = 'raw_features') AS rows
FROM
(
    SELECT
        [
            total_in_usd, total_out_usd, total_volume_usd, avg_tx_in_usd, avg_tx_out_usd, median_tx_in_usd,
            median_tx_out_usd, max_tx_usd, min_tx_usd, avg_daily_volume_usd, khop1_volume_usd, khop2_volume_usd,
            khop3_volume_usd
        ] AS amounts,
        [
            regularity_score, concentration_ratio, velocity_score, structuring_score, weekend_transaction_ratio,
            night_transaction_ratio, small_transaction_ratio, consistency_score, pagerank, betweenness,
            clustering_coefficient, centrality_score, counterparty_stability, flow_burstiness,
            transaction_regularity, amount_predictability, completeness_score
        ] AS scores,
        [tx_total_count, length(hourly_activity), length(daily_activity)] AS counts,
        [tx_total_count < 1, length(hourly_activity) != 24, length(daily_activity) != 7] AS are_wrong,
        [arraySum(hourly_activity), arraySum(daily_activity)] AS sums
    FROM {raw_features}
    -- Of good rows, which is nearly always all, this is all that is computed.
    WHERE arrayExists(is_negative, amounts)
        OR arrayExists(is_no_share, scores)
        OR has(are_wrong, 1)
        OR arrayMax(sums) > tx_total_count
)
ARRAY JOIN arrayConcat(
    arrayFilter(
        (each, amount) -> is_negative(amount),
        arrayMap(
            (name, amount) -> (concat(name, ' >= 0'), toString(amount)),
            [
                'total_in_usd', 'total_out_usd', 'total_volume_usd', 'avg_tx_in_usd', 'avg_tx_out_usd',
                'median_tx_in_usd', 'median_tx_out_usd', 'max_tx_usd', 'min_tx_usd', 'avg_daily_volume_usd',
                'khop1_volume_usd', 'khop2_volume_usd', 'khop3_volume_usd'
            ],
            amounts
        ),
        amounts
    ),
    arrayFilter(
        (each, score) -> is_no_share(score),
        arrayMap(
            (name, score) -> (concat(name, ' in 0..1'), toString(score)),
            [
                'regularity_score', 'concentration_ratio', 'velocity_score', 'structuring_score',
                'weekend_transaction_ratio', 'night_transaction_ratio', 'small_transaction_ratio',
                'consistency_score', 'pagerank', 'betweenness', 'clustering_coefficient', 'centrality_score',
                'counterparty_stability', 'flow_burstiness', 'transaction_regularity', 'amount_predictability',
                'completeness_score'
            ],
            scores
        ),
        scores
    ),
    arrayFilter(
        (each, is_wrong) -> is_wrong,
        arrayMap(
            (rule, count) -> (rule, toString(count)),
            ['tx_total_count >= 1', 'length of hourly_activity = 24', 'length of daily_activity = 7'],
            counts
        ),
        are_wrong
    ),
    arrayFilter(
        (each, sum) -> sum > counts[1],
        arrayMap(
            (name, sum) -> (concat('sum of ', name, ' <= tx_total_count'), toString(sum)),
            ['hourly_activity', 'daily_activity'],
            sums
        ),
        sums
    )
) AS each
GROUP BY rule
