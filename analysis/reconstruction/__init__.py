"""Images rebuilt from centroids."""
