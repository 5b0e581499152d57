"""Tests of pipeline/graph/."""
