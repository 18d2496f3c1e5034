"""A page of a set of anomaly maps, to look at."""
