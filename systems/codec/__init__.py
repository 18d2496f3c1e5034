"""A learned hierarchical image codec."""
