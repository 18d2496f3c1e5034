"""Decoding of picture files: opening them safely, their bit depth, their transparency, and their colour space."""
