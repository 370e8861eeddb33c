"""Residual stages: dictionaries of what others leave."""
