"""Spectrograms as pictures: reading, split by recording, data set, and the simulator of walkers."""
