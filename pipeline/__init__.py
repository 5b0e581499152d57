"""Loads verified daily snapshots into ClickHouse."""
