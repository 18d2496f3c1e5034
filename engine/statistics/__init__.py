"""Figures that describe latents: moments, spectra, and the report made of them."""
