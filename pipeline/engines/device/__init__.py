"""The engines for CUDA, MPS and, as a reference, CPUs: every row against every centroid."""
