"""What reaches buckets: a client for each in a process, its tries and timeouts, its errors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from storage.errors import InputError, RemoteError

_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
# Seven tries more, after 0.2 s and up to twice as long each time: some seconds in all.
_RETRIES: dict[str, Any] = {
    "max_retries": 7,
    "backoff": {
        "init_backoff": timedelta(seconds=0.2),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
    "retry_timeout": timedelta(seconds=60),
}
_FALLS_SILENT: dict[str, Any] = {"connect_timeout": "5s", "timeout": "120s"}
_in_memory: dict[str, Any] = {}  # stores of memory://, by what follows


def library() -> Any:
    """obstore, which is an extra, with all that is used of it."""
    import obstore.exceptions
    import obstore.store

    return obstore


def client_of(root: str) -> Any:
    """Of obstore; root: scheme and bucket. Raises: InputError: there is none for it."""
    if root.startswith("memory:"):
        return _in_memory.setdefault(root, library().store.MemoryStore())
    return connected(root)


def require_library(url: str) -> None:
    """Raises: InputError where obstore is not installed; url: needs it."""
    if find_spec("obstore") is None:
        raise InputError(
            f"{url} needs the package obstore (the extra `remote`): pip install obstore"
        )


def forget(root: str) -> None:
    """Let go of what lies in memory."""
    _in_memory.pop(root, None)


@lru_cache(maxsize=64)
def connected(root: str) -> Any:
    """The client of a bucket, by the environment as it is now."""
    given = [root, *(os.environ.get(name, "") for name in _ENDPOINTS)]
    plain = any(url.startswith("http://") for url in given)  # that is what was asked for
    try:
        return library().store.from_url(
            root,
            client_options={**_FALLS_SILENT, "allow_http": plain},
            retry_config=_RETRIES,
        )
    except (library().exceptions.BaseError, ValueError) as error:
        raise InputError(f"cannot use {root}: {_first_line(error)}") from error


@contextmanager
def telling(doing: str, place: object) -> Iterator[None]:
    """What the bucket refuses is a RemoteError that names the place.

    Those of conditions that do not hold, and FileNotFoundError, are passed on.
    """
    exceptions = library().exceptions
    try:
        yield
    except FileNotFoundError:
        if doing in ("list", "write"):  # what lies in it need not be there
            raise RemoteError(f"there is no bucket for {place}: make it first") from None
        raise
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise
    except exceptions.BaseError as error:
        if doing == "list" and "404 Not Found" in _first_line(error):
            raise RemoteError(f"there is no bucket for {place}: make it first") from None
        raise RemoteError(f"cannot {doing} {place}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong, and what to do."""
    kind = type(error).__name__
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or "redentials" in str(error):
        return f"it refuses ({_first_line(error)}): check the credentials in the environment"
    if kind == "NotSupportedError":
        return f"it cannot do that ({_first_line(error)})"
    return f"{_first_line(error)}; check the connection and the endpoint, and run it again"


def _first_line(error: Exception) -> str:
    """The first line of what obstore says, which goes on with what its parts looked like."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
