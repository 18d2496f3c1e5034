"""The loop's tensor operations. `reference.py` holds each one in plain torch: the oracle, and what runs by default."""
