"""One try at fetching a file over HTTP: goes on where the last one was cut, and ends in time.

Loaded when something is fetched: it brings requests along.
"""

import os
import sys
import time
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0  # without a byte
LEAST_RATE = 1024  # bytes per second, over RATE_SECONDS and more; a server may drip for ever
RATE_SECONDS = 30.0
MOST_BYTES = 1 << 28  # ten times the largest file known; a server may send for ever
MOST_REDIRECTS = 10
LONGEST_RETRY_AFTER = 30.0  # seconds that a server may ask for
_BLOCK = 1 << 16  # bytes
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # HTTP's "come back later"


class TransferError(Exception):
    """A try failed; the message is its reason, in few words.

    transient: whether another try may go better. wait: seconds that the server asked for.
    """

    def __init__(self, reason: str, *, transient: bool, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.transient = transient
        self.wait = wait


class Transfer:
    """A downloader for pooch that keeps what it has got in `partial` until it has all.

    Bytes are taken as they are sent: a server may label .gz files as gzipped on the way, and
    unpacked they would have another hash. Any server of the file may complete what another one
    began, for the hash tells in the end; `resumed` tells that some bytes are from before.
    """

    def __init__(self, partial: Path) -> None:
        self.partial = partial
        self.resumed = False
        self._validators: dict[str, str] = {}  # of what came from a URL: its ETag or date

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """Fetch `url` into `output_file`.

        Raises: TransferError; OSError where the file cannot be written.
        """
        try:
            self._fetch(url)
        except requests.RequestException as error:
            raise _reason(error) from error
        except urllib3.exceptions.HTTPError as error:  # while the body is read
            raise TransferError(_word(error), transient=True) from error
        os.replace(self.partial, output_file)

    def _fetch(self, url: str) -> None:
        have = self.partial.stat().st_size if self.partial.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if url in self._validators:  # the whole file is sent if it has changed
                headers["If-Range"] = self._validators[url]
        with requests.Session() as session:
            session.max_redirects = MOST_REDIRECTS
            timeout = (CONNECT_SECONDS, SILENCE_SECONDS)
            with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
                if have and response.status_code == requests.codes.range_not_satisfiable:
                    self.resumed = (
                        True  # there is no more to come; the hash tells whether it is whole
                    )
                    return
                response.raise_for_status()
                start = _start(response)
                if start not in (0, have):
                    raise TransferError(f"sent bytes from {start} on, not {have}", transient=False)
                self.resumed = start > 0
                self._take_validator(url, response)
                self._receive(response, start)

    def _take_validator(self, url: str, response: requests.Response) -> None:
        etag = response.headers.get("ETag", "")
        # A weak one says that two files mean the same, not that their bytes are the same.
        strong = etag if not etag.startswith("W/") else ""
        if validator := strong or response.headers.get("Last-Modified", ""):
            self._validators[url] = validator

    def _receive(self, response: requests.Response, start: int) -> None:
        terminal = sys.stderr.isatty()
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if not terminal:
            tqdm.write(f"fetching {response.url}", file=sys.stderr)
        began = time.monotonic()
        with (
            self.partial.open("r+b" if start else "wb") as file,
            tqdm(
                total=total, initial=start, unit="B", unit_scale=True, disable=not terminal
            ) as bar,
        ):
            done = file.seek(start)
            # read1 returns with what is there, so that the clock is looked at
            while block := response.raw.read1(_BLOCK, decode_content=False):
                done += file.write(block)
                bar.update(len(block))
                seconds = time.monotonic() - began
                if seconds > RATE_SECONDS and done - start < LEAST_RATE * seconds:
                    raise TransferError(f"slower than {LEAST_RATE} bytes/s", transient=True)
                if done > MOST_BYTES:
                    self.partial.unlink()
                    raise TransferError(f"sends more than {MOST_BYTES} bytes", transient=False)


def _start(response: requests.Response) -> int:
    """First byte of what is sent."""
    if response.status_code != requests.codes.partial_content:
        return 0
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdecimal() else -1


def _reason(error: requests.RequestException) -> TransferError:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        code = error.response.status_code
        wait = _retry_after(error.response)
        if wait > LONGEST_RETRY_AFTER:
            reason = f"HTTP {code}, asks to wait more than {LONGEST_RETRY_AFTER:.0f} s"
            return TransferError(reason, transient=False)
        return TransferError(f"HTTP {code}", transient=code in _TRANSIENT, wait=wait)
    certificate = isinstance(error, requests.exceptions.SSLError)
    lost = isinstance(error, (requests.ConnectionError, requests.Timeout)) and not certificate
    return TransferError(_word(error), transient=lost)


def _retry_after(response: requests.Response) -> float:
    header = response.headers.get("Retry-After")
    if header is None:
        return 0.0
    try:
        return urllib3.Retry().parse_retry_after(header)  # seconds or a date
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _word(error: Exception) -> str:
    return type(error).__name__
