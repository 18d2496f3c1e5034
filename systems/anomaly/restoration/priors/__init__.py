"""Priors of normality: how far latents are from those of normal volumes."""
