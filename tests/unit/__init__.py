"""The test of each module; the folders mirror those of pipeline/."""
