"""Buckets of trainers: the width and height that a trainer gives each picture, by its own arithmetic.

One file per trainer, one line per trainer in `registry.py`. Each file holds a trainer's published arithmetic, written
anew, with its rounding, its step, its limits and its options; `docs/buckets.md` names the sources.
"""
