"""Whether the files of a run are still what the run wrote, and their repair."""
