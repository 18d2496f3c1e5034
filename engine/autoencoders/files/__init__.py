"""Autoencoders from files: a folder of diffusers, a checkpoint of one file, and what is wrong with either."""
