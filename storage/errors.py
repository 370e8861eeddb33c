"""The project's error tree.

Every message is one line that says what was got, what was expected, and what to do next;
the command line prints it as it stands and exits with code 2.
"""


class PatchDictError(Exception):
    """Base of every error that a user can cause or mend."""


class InputError(PatchDictError, ValueError):
    """What was asked for cannot be: a bad option, a bad or missing input."""


class IntegrityError(PatchDictError):
    """Something on disk is damaged, unfinished, or not what it claims to be."""


class BusyError(PatchDictError):
    """Another process holds what this one needs."""


class WorkerError(PatchDictError):
    """Workers of a cluster were lost."""


class MemoryBudgetError(PatchDictError):
    """The projected peak does not fit under the cap."""
