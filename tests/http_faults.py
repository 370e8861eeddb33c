"""An HTTP server on this machine that answers as it is told, rightly or not."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Gives the first answer that is left in the server's plan, and the last one for ever."""

    protocol_version = "HTTP/1.1"
    site: "FaultyServer"

    def do_GET(self) -> None:
        self.close_connection = True
        site = self.site
        site.requests.append({"path": self.path, **self.headers})
        answer = site.plan.pop(0) if len(site.plan) > 1 else site.plan[0]
        with suppress(OSError):  # the client has gone
            answer(self)

    def log_message(self, *_: object) -> None: ...

    def head(self, code: int, **headers: Any) -> None:
        self.send_response(code)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    @property
    def first(self) -> int:
        """The first byte that is asked for."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])

    def hang_up(self) -> None:
        """As a machine that goes down, or a cable that is pulled."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


class FaultyServer:
    """plan: answers to come. requests: path and headers of those that came."""

    def __init__(self) -> None:
        self.plan: list[Answer] = []
        self.requests: list[dict[str, str]] = []
        handler = type("Bound", (Handler,), {"site": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()


def send(content: bytes, etag: str = '"1"', **headers: Any) -> Answer:
    """A good server: ranges, and If-Range."""

    def answer(handler: Handler) -> None:
        first, total = handler.first, len(content)
        if handler.headers.get("If-Range", etag) != etag:
            first = 0
        if first >= total:
            handler.head(416, Content_Range=f"bytes */{total}", Content_Length=0)
            return
        place = {"Content_Range": f"bytes {first}-{total - 1}/{total}"} if first else {}
        handler.head(
            206 if first else 200, Content_Length=total - first, ETag=etag, **place, **headers
        )
        handler.wfile.write(content[first:])

    return answer


def send_whole(content: bytes) -> Answer:
    """A server that knows no ranges."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content)

    return answer


def cut(content: bytes, length: int, etag: str = '"1"') -> Answer:
    """Hangs up after so many bytes more."""

    def answer(handler: Handler) -> None:
        first, total = handler.first, len(content)
        place = {"Content_Range": f"bytes {first}-{total - 1}/{total}"} if first else {}
        handler.head(206 if first else 200, Content_Length=total - first, ETag=etag, **place)
        handler.wfile.write(content[first : first + length])
        handler.hang_up()

    return answer


def cut_chunks(content: bytes, length: int) -> Answer:
    """Sends in chunks, and hangs up within one."""

    def answer(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        half = content[: length // 2]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))
        handler.wfile.write(b"%x\r\n%s" % (len(content), content[len(half) : length]))
        handler.hang_up()

    return answer


def drip(content: bytes, seconds: float) -> Answer:
    """A byte now and then."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content))
        for byte in content:
            handler.wfile.write(bytes([byte]))
            time.sleep(seconds)

    return answer


def stall(content: bytes, length: int, seconds: float) -> Answer:
    """Falls silent after so many bytes."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content), ETag='"1"')
        handler.wfile.write(content[:length])
        time.sleep(seconds)

    return answer


def refuse(code: int, **headers: Any) -> Answer:
    """An error without a body."""
    return lambda handler: handler.head(code, Content_Length=0, **headers)


def redirect(location: str) -> Answer:
    return refuse(302, Location=location)


def in_seconds(seconds: float) -> str:
    """As a date in a header."""
    return formatdate(time.time() + seconds, usegmt=True)
