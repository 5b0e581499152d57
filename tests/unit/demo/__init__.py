"""Tests of pipeline/demo/."""
