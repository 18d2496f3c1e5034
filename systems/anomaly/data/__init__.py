"""Volumes: reading, preparation from CT, folds, augmentation, procedural vertebrae."""
