"""Validators of generated spectrograms on own features: nothing is downloaded."""
