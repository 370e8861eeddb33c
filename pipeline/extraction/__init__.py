"""From images to a store of patches."""
