-- Who is at work on a snapshot, across hosts. Append-only: the row with the highest number counts, until its time is
-- over. Of several rows that follow the same one only the first is kept: each INSERT carries a deduplication token that
-- names the row that it follows. A row whose time was over when it was written gives the snapshot back.
CREATE TABLE IF NOT EXISTS {database}.sot_claims
(
    processing_date Date,
    window_days UInt16,
    number UInt64,
    owner String,
    run_id String,
    claimed_at DateTime64(6, 'UTC'),
    until DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (processing_date, window_days, number)
SETTINGS non_replicated_deduplication_window = 1000
