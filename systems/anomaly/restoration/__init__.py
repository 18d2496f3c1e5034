"""Restoration: the engine's loop finds the normal volume nearest to a given one, and what differs is the anomaly."""
