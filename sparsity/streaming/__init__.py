"""Pruning of models that are larger than memory: block by block, from disk to disk."""
