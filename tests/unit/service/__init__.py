"""Tests of pipeline/service/."""
