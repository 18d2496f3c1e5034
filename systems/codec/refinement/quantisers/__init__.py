"""What stands for rounding while latents are refined, one function per file."""
