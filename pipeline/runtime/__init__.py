"""The machine: devices, memory, signals, progress, compiled kernels."""
