"""Verification of the files of a run against what was recorded when they were written, and their repair."""
