"""Loads verified daily snapshots into ClickHouse, all tables of a snapshot visible at one instant.

The flow, one luigi task a line; each leaves a proof, and a rerun does only what has none:

    FindSnapshot        META.json and the files that it lists are at the source
    DownloadManifest    META.json on disk; from the SOT ClickHouse: each table exported, then META.json written
    ValidateManifest    it describes what was asked for
    DownloadFile ×4     one file each, hashed while it is written
    ValidateFile ×4     Parquet, columns, rows
    ValidateChecksum ×4 SHA-256 of the file on disk
    LoadTable ×4        rows under a new load_id, counted and compared, invisible to readers
    PublishSnapshot     one single-row INSERT: readers see all tables
    CleanUp             work files gone

Each file goes its way by itself, the features first; PublishSnapshot needs them all.

The work directory (``WORK_PATH``), empty when nothing is half done:

    {network}/{processing_date}/{window_days}/
        META.json
        raw_alerts.parquet  raw_features.parquet  raw_clusters.parquet  raw_address_labels.parquet
        proofs/
            download-manifest.json    newest-manifest.json      validate-manifest.json
            download-raw_alerts.json  validate-file-raw_alerts.json  validate-checksum-raw_alerts.json  …
    export/     what was read from the SOT ClickHouse, in the bucket's layout; links to it take the files' place above
    runs/       {start}-{run_id}.jsonl, what the steps of a run did; gone when sot_steps has it
    found/      what check and verify found last
    locks/

    sot-ingest run --date 2025-08-01 --network torus --scheduler local
"""
