"""Rows of one anchor against the list of its candidates, sixteen at a time."""
