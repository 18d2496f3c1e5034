"""Runs over a folder of pictures: settings and state on disk, executors that make shards, verification, and report."""
