"""Classifier guidance: who walks, told from noisy latents. It leads samples and judges none: the validators have classifiers of their own."""
