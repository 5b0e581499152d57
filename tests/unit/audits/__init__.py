"""Unit tests of pipeline.audits."""
