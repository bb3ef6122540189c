"""Metrics and pictures of predictions that are already decoded."""
