-- The addresses that raw_features had on the nearest published day are still there: at most the share `share` is gone
-- for each day that lies between (for one day, of a day that is published again), beside those that a rolling window
-- leaves behind, and `distance` standard deviations of that, which is much for few addresses. No rule for a snapshot
-- that upstream's exporter cut at `most_rows` rows.
-- level: hold
-- message: raw_features: {gone} of {rows} addresses of {nearest} are gone, expected at most {most}
-- parameter share = 0.3
-- parameter distance = 4
-- parameter most_rows = 1000000
WITH
    (1 - {share:Float64}) * (1 - 1 / {window_days:UInt16}) AS kept_a_day,
    pow(kept_a_day, greatest(abs(dateDiff('day', nearest, {processing_date:Date})), 1)) AS kept
SELECT
    count() AS rows,
    countIf(cityHash64(address) NOT IN (SELECT cityHash64(address) FROM {raw_features})) AS gone,
    processing_date AS nearest,
    floor(rows * (1 - kept) + {distance:Float64} * sqrt(rows * kept * (1 - kept))) AS most,
    greatest(rows, (SELECT max(rows) FROM {row_counts} WHERE table = 'raw_features')) >= {most_rows:Float64} AS is_cut,
    gone > most AND NOT is_cut AS wrong
FROM {raw_features_nearest}
GROUP BY processing_date
