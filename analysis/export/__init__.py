"""A dictionary in the formats of other tools."""
