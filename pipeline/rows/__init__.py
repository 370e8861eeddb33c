"""Rows as the loops see them, and their sums."""
