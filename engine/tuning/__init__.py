"""Encoders tuned for a frozen decoder."""
