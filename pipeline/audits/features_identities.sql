-- What upstream's code makes true of each address: columns that are computed from others equal what they are computed
-- from, amounts within `tolerance` of the sum of both directions, and hours, weekdays, days, ratios and entropies are
-- possible ones.
-- level: warn
-- message: raw_features: {rule} does not hold in {broken} of {rows} rows
-- parameter tolerance = 0.000001
SELECT
    each.1 AS rule,
    each.2 AS broken,
    rows
FROM
(
    WITH
        -- Floats: the sum of two decimals can overflow, which is an error.
        toFloat64(total_in_usd) AS total_in,
        toFloat64(total_out_usd) AS total_out,
        {tolerance:Float64} * greatest(abs(total_in + total_out), 1) AS near,
        abs(toFloat64(net_flow_usd) - (total_in - total_out)) > near AS is_other_flow,
        abs(toFloat64(total_volume_usd) - (total_in + total_out)) > near AS is_other_volume,
        arraySum(hourly_activity) != arraySum(daily_activity) AS is_other_activity,
        activity_span_days NOT BETWEEN 1 AND {window_days:UInt16} AS is_no_span,
        ((value, most) -> NOT value BETWEEN -{tolerance:Float64} AND most + {tolerance:Float64}) AS is_outside
    SELECT
        count() AS rows,
        [
            ('degree_total = unique_counterparties', countIf(degree_total != unique_counterparties)),
            ('tx_total_count = tx_in_count + tx_out_count', countIf(tx_total_count != tx_in_count + tx_out_count)),
            ('net_flow_usd = total_in_usd - total_out_usd', countIf(is_other_flow)),
            ('total_volume_usd = total_in_usd + total_out_usd', countIf(is_other_volume)),
            ('sum of hourly_activity = sum of daily_activity', countIf(is_other_activity)),
            ('degree_total >= 1', countIf(degree_total < 1)),
            ('kcore >= 1', countIf(kcore < 1)),
            ('peak hours <= 23', countIf(peak_hour > 23 OR peak_activity_hour > 23)),
            ('peak days <= 6', countIf(peak_day > 6 OR peak_activity_day > 6)),
            ('activity_days <= window_days', countIf(activity_days > {window_days:UInt16})),
            ('activity_span_days in 1..window_days', countIf(is_no_span)),
            ('first activity <= last activity', countIf(first_activity_timestamp > last_activity_timestamp)),
            ('burst_factor in 0..24', countIf(is_outside(burst_factor, 24))),
            ('reciprocity_ratio in 0..0.5', countIf(is_outside(reciprocity_ratio, 0.5))),
            ('hourly_entropy in 0..log2(24)', countIf(is_outside(hourly_entropy, log2(24)))),
            ('daily_entropy in 0..log2(7)', countIf(is_outside(daily_entropy, log2(7))))
        ] AS rules
    FROM {raw_features}
)
ARRAY JOIN rules AS each
WHERE broken > 0
