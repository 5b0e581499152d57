"""Tests of pipeline/warehouse/."""
