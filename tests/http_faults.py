"""An HTTP server on this machine that answers as it is told, rightly or not."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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


def send(content: bytes) -> Answer:
    """A good server."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content)

    return answer


def cut(content: bytes, length: int) -> Answer:
    """Hangs up after so many bytes."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content[:length])
        handler.hang_up()

    return answer


def stall(content: bytes, length: int, seconds: float) -> Answer:
    """Falls silent after so many bytes."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content[:length])
        time.sleep(seconds)

    return answer


def refuse(code: int) -> Answer:
    """An error without a body."""
    return lambda handler: handler.head(code, Content_Length=0)
