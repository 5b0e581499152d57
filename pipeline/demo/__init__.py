"""A bucket in upstream's format, to try the pipeline with."""
