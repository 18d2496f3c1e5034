"""The 3-D VQ-VAE: its configuration, network and checkpoints."""
