"""Files that appear whole or not at all, checksums, and the limit of open files."""
