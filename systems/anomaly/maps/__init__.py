"""Anomaly maps of whole sets of volumes: made, kept in files, read again."""
