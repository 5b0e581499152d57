-- The least that ClickHouse must grant: to the pipeline, to its service (sot-ingest serve), and to those who query its
-- tables. Granting twice does no harm.
-- GRANT takes no parameters, so this is written for the database torus. For those of all configured networks:
--
--   python -m pipeline.warehouse.grants | clickhouse-client
--
-- or, where the pipeline is not installed, as an administrator:
--
--   for database in ethereum bitcoin torus; do sed "s/\btorus\b/$database/" docker/grants.sql; done | clickhouse-client
--
-- Then give the roles to users, by the names that you have chosen:
--
--   CREATE USER ingest IDENTIFIED BY '…'; GRANT sot_ingest TO ingest;
--   CREATE USER reader IDENTIFIED BY '…'; GRANT sot_reader TO reader; GRANT sot_analyst TO alice, bob;

CREATE ROLE IF NOT EXISTS sot_ingest, sot_replicas, sot_reader, sot_analyst;

-- CREATE DATABASE may be left out where the database is there already. Dropping a partition is ALTER DELETE.
GRANT CREATE DATABASE, CREATE TABLE, SELECT, INSERT, ALTER DELETE ON torus.* TO sot_ingest;
GRANT TABLE ENGINE ON MergeTree TO sot_ingest;
-- Comments on tables that a version before the comments made.
GRANT ALTER COMMENT COLUMN, ALTER MODIFY COMMENT ON torus.* TO sot_ingest;
-- To stop a load of its own that failed.
GRANT SELECT(query_id, user, query) ON system.processes TO sot_ingest;

-- Where several hosts are replicas of each other, besides, on each of them: GRANT sot_replicas TO ingest
GRANT TABLE ENGINE ON ReplicatedMergeTree TO sot_replicas;
GRANT SYSTEM SYNC REPLICA ON torus.* TO sot_replicas;

-- What sot-ingest serve reads; with the last line also how full the server's disks are, which the report shows.
GRANT SELECT ON torus.sot_publications TO sot_reader;
GRANT SELECT ON torus.sot_table_loads TO sot_reader;
GRANT SELECT ON torus.sot_audits TO sot_reader;
GRANT SELECT ON torus.sot_steps TO sot_reader;
GRANT SELECT ON torus.sot_claims TO sot_reader;
GRANT SHOW TABLES ON torus.* TO sot_reader;
GRANT SELECT(name, free_space, total_space) ON system.disks TO sot_reader;

-- No row policy on these tables and no constraint on settings for sot_ingest: sot-ingest doctor says which is in the way.
-- A view reads with the rights of who asks: the views, and the five tables that are behind them.
GRANT SELECT ON torus.raw_alerts TO sot_analyst;
GRANT SELECT ON torus.raw_alerts_as_of TO sot_analyst;
GRANT SELECT ON torus.raw_alerts_newest TO sot_analyst;
GRANT SELECT ON torus.raw_features TO sot_analyst;
GRANT SELECT ON torus.raw_features_as_of TO sot_analyst;
GRANT SELECT ON torus.raw_features_newest TO sot_analyst;
GRANT SELECT ON torus.raw_clusters TO sot_analyst;
GRANT SELECT ON torus.raw_clusters_as_of TO sot_analyst;
GRANT SELECT ON torus.raw_clusters_newest TO sot_analyst;
GRANT SELECT ON torus.raw_address_labels TO sot_analyst;
GRANT SELECT ON torus.raw_address_labels_as_of TO sot_analyst;
GRANT SELECT ON torus.raw_address_labels_newest TO sot_analyst;
GRANT SELECT ON torus.sot_snapshots TO sot_analyst;
GRANT SELECT ON torus.sot_freshness TO sot_analyst;
GRANT SELECT ON torus.raw_alerts_loads TO sot_analyst;
GRANT SELECT ON torus.raw_features_loads TO sot_analyst;
GRANT SELECT ON torus.raw_clusters_loads TO sot_analyst;
GRANT SELECT ON torus.raw_address_labels_loads TO sot_analyst;
GRANT SELECT ON torus.sot_publications TO sot_analyst;
