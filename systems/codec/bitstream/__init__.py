"""Latents to bytes and back: fixed-point networks, integer tables, rANS and the file."""
