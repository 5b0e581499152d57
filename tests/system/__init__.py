"""Whole runs on real parts, by story."""
