-- Over a whole snapshot what went out came in, in USD and in transfers, within `tolerance` of the larger sum, and the
-- shares of PageRank are 1 together, within `rank_tolerance`. No rule for a snapshot that upstream's exporter cut at
-- `most_rows` rows.
-- level: warn
-- message: raw_features: {what} is {found}, expected {expected}, {meaning}
-- parameter tolerance = 0.000001
-- parameter rank_tolerance = 0.001
-- parameter most_rows = 1000000
SELECT
    each.1 AS what,
    each.2 AS found,
    each.3 AS expected,
    each.5 AS meaning,
    abs(found - expected) > each.4 * greatest(found, expected, 1) AND rows < {most_rows:Float64} AS wrong
FROM
(
    SELECT
        count() AS rows,
        [
            (
                'sum of total_out_usd',
                sum(toFloat64(total_out_usd)),
                sum(toFloat64(total_in_usd)),
                {tolerance:Float64},
                'the sum of total_in_usd'
            ),
            (
                'sum of tx_out_count',
                sum(toFloat64(tx_out_count)),
                sum(toFloat64(tx_in_count)),
                {tolerance:Float64},
                'the sum of tx_in_count'
            ),
            ('sum of pagerank', sum(toFloat64(pagerank)), 1.0, {rank_tolerance:Float64}, 'the whole')
        ] AS sums
    FROM {raw_features}
)
ARRAY JOIN sums AS each
