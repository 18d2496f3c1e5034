"""Tensor operations of the loop and the decoder, one per file; `reference.py` holds each one in plain torch."""
