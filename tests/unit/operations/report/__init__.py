"""Tests of pipeline/operations/report/."""
