"""The 3-D VQ-VAE: its configuration, vector quantiser and network."""
