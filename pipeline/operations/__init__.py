"""What operators ask of the pipeline beside runs."""
