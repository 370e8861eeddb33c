"""K-means: seeding, the loops, and the state that they keep."""
