"""The project's error tree.

Every message is one line that says what was got, what was expected, and what to do next;
the command line prints it as it stands and exits with code 2.
"""

LONGEST_SHOWN = 80  # letters of a value in a message


def shortened(value: object) -> str:
    """A value's repr for a message, its middle left out where it is long."""
    text = repr(value)
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]} … {text[-half:]}"


def one_line(text: str) -> str:
    """The text with escapes for line breaks, terminal controls and bytes that are no text.

    Names of files may hold them all.
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class PatchDictError(Exception):
    """Base of every error that a user can cause or mend."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(PatchDictError, ValueError):
    """What was asked for cannot be: a bad option, a bad or missing input."""


class IntegrityError(PatchDictError):
    """Something on disk is damaged, unfinished, or not what it claims to be."""


class DamageError(IntegrityError):
    """Bytes on disk are not those that were written: they can only be made anew."""


class BusyError(PatchDictError):
    """Another process holds what this one needs."""


class WorkerError(PatchDictError):
    """Workers of a cluster were lost."""


class DeviceError(PatchDictError):
    """A device failed while it computed."""


class MemoryBudgetError(PatchDictError):
    """The projected peak does not fit under the cap."""
