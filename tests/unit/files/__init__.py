"""Tests of pipeline/files/."""
