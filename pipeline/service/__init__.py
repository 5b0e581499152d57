"""``sot-ingest serve``: what the warehouse knows, over HTTP. It only reads, and asks once for all who wait."""
