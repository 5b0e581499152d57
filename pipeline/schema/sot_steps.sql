-- One row a step that did something, or could not. Append-only, written best effort: a log, and no proof of anything.
-- state: done, failed, held (AuditSnapshot: an audit found something), missing (FindSnapshot: no snapshot at the source).
-- table_name is empty when the step is about the whole snapshot; facts is the JSON object of the step's log event.
CREATE TABLE IF NOT EXISTS {database}.sot_steps
(
    processing_date Date,
    window_days UInt16,
    step LowCardinality(String),
    table_name LowCardinality(String),
    state LowCardinality(String),
    started_at DateTime64(6, 'UTC'),
    seconds Float64,
    facts String,
    error String,
    hint String,
    run_id String,
    recorded_at DateTime64(6, 'UTC'),
    host String,
    pipeline_version String
)
ENGINE = MergeTree
ORDER BY (processing_date, window_days, started_at)
