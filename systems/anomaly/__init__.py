"""Anomaly maps of volumes."""
