"""The settings, the optimisation loop, and what runs it."""
