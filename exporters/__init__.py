"""Formats out, and the readers that load them back."""
