"""A run over a folder: its settings and files, who makes its shards, its verification and its report."""
