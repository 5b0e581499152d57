"""Tests of pipeline/runs/."""
