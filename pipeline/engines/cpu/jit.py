"""How kernels are compiled: those that Python calls, kept on disk, and those inside of them."""

from functools import partial

from numba import njit

# Without wrappers that nobody calls: they take a fifth of the time of a first run.
kernel = partial(njit, nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
inner = partial(njit, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True)
