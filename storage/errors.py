"""The project's error tree.

Every message is one line that says what was got, what was expected, and what to do next;
the command line prints it as it stands and exits with code 2.
"""

import errno

LONGEST_SHOWN = 80  # letters of a value in a message
_OTHER_DISK = "the disk, or the connection to it, fails: save what is on it, and use another"
_TOO_MANY_FILES = "close other programs, or raise the limit (ulimit -n)"
_REMEDIES = {
    errno.EACCES: "get the right to use it, or choose another folder",
    errno.EPERM: "get the right to use it, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOENT: "check the name, and whether another program removed it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "a file is needed there, not a folder: move it away, or choose another name",
    errno.ENOTDIR: "a folder is needed there, not a file: move it away, or choose another name",
    errno.EEXIST: "something else has this name: move it away, or choose another name",
    errno.ELOOP: "its links lead in a circle: mend them, or choose another name",
    errno.EFBIG: "its disk takes no file so large: choose another one",
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.ENOMEM: "close other programs, or give less MEMORY",
    errno.EIO: _OTHER_DISK,
    errno.ESTALE: _OTHER_DISK,
}


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


def refusal(error: OSError) -> str:
    """What the system refused, where, and what to do about it."""
    where = error.filename
    if isinstance(where, bytes):
        where = where.decode(errors="surrogateescape")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk{f' of {where}' if where else ''} is full: make room, and run the same"
            " command again, it goes on from here"
        )
    reason, remedy = error.strerror or str(error), _REMEDIES.get(error.errno or 0)
    told = f"cannot use {where}: {reason}" if where else reason
    return f"{told}; {remedy}" if remedy else told


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


class RemoteError(PatchDictError):
    """A bucket, or another server of files, refuses or does not answer."""


class WorkerError(PatchDictError):
    """Workers of a cluster were lost."""


class DeviceError(PatchDictError):
    """A device failed while it computed."""


class MemoryBudgetError(PatchDictError):
    """The projected peak does not fit under the cap."""
