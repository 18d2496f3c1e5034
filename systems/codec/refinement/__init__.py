"""Refinement: the latents of one picture, optimised under the rate-distortion loss by the engine's loop."""
