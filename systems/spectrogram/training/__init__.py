"""What the trainings of VAE, diffusion and classifier share."""
