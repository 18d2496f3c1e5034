"""Finds latents: autoencoders in, images in, the optimisation loop, metrics. Knows nothing of file formats out."""
