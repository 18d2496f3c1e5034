"""The latent caches of trainers of diffusion models, one file per trainer."""
