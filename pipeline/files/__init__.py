"""Files on disk, and what a Parquet file may hold."""
