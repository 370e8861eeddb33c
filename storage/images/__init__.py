"""Image sources: named sets, files, and arrays."""
