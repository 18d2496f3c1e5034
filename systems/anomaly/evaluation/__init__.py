"""How well anomaly maps tell abnormal voxels and volumes, with thresholds from a validation set alone."""
