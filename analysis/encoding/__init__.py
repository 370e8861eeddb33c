"""Images as codes, one integer for each patch position, and back."""
