"""Readers of files, one for each format; `registry` says which is whose."""
