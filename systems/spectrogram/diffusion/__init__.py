"""Latent diffusion conditioned on the user: latents, network, training, sampling and generation."""
