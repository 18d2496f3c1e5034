"""Orthonormal transforms of pictures and latents, differentiable, on any device."""
