"""Atomic file writes, checksums, and the limit on open files."""
