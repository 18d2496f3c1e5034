"""Inputs of a run: discovery of its files, decoding, masks, views, and prefetching."""
