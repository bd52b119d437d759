"""Metrics: every number with its uncertainty."""
