"""The detector: a small 3-D U-Net on error map and volume, trained with weak labels."""
