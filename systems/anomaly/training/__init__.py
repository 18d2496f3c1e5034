"""Training of the 3-D VQ-VAE: Lightning module and data, trainer, configuration."""
