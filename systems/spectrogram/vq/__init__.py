"""A VQ-VAE of spectrograms and a transformer that is told who walks: the rival of the latent diffusion."""
