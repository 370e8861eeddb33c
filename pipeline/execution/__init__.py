"""Where passes run: this process, or the workers of a cluster."""
