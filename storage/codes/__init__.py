"""Codes of images on disk."""
