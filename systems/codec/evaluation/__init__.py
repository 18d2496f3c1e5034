"""Evaluation of the codec on whole pictures, beside JPEG, JPEG 2000, WebP and published curves."""
