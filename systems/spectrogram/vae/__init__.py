"""The VAE of spectrograms: settings, training, evaluation, and the check of what a training wrote."""
