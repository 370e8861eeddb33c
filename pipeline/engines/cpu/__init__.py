"""The exact pruned engine for CPUs."""
