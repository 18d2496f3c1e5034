"""Micro-Doppler spectrograms of walkers: a diffusion model that is told which walker, and its validators."""
