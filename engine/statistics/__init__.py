"""Statistics that describe latents: moments, power spectra, and the report that combines them."""
