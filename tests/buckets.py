"""A bucket on this machine: moto's server, behind a proxy that is as slow and as faulty as told."""

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Fault = Callable[["Proxied"], bool]  # answers a request itself, and says so


class Proxied(BaseHTTPRequestHandler):
    """A request that is handed on to the server behind, after a while."""

    protocol_version = "HTTP/1.1"
    proxy: "SlowProxy"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.proxy.seconds)
        self.proxy.requests.append(f"{self.command} {self.path}")
        with suppress(OSError):  # the client has gone
            if not any(fault(self) for fault in list(self.proxy.faults)):
                self.answer(*self.proxy.ask(self.command, self.path, body, dict(self.headers)))

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815  # as the library calls them

    def answer(
        self, code: int, headers: list[tuple[str, str]], content: bytes, cut: int | None = None
    ) -> None:
        """Send a response; cut: bytes of it after which the connection breaks."""
        self.send_response_only(code)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        size = length if self.command == "HEAD" and length else str(len(content))
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None: ...


class SlowProxy:
    """seconds: before each request goes on. faults: asked in order. requests: that came."""

    def __init__(self, host: str, port: int) -> None:
        self.seconds, self._behind = 0.0, (host, port)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        handler = type("Bound", (Proxied,), {"proxy": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self._thread.start()

    def ask(
        self, command: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the server behind says."""
        behind = http.client.HTTPConnection(*self._behind, timeout=60)
        try:
            behind.request(command, path, body, headers)
            found = behind.getresponse()
            return found.status, found.getheaders(), found.read()
        finally:
            behind.close()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()


def refuse(code: int, named: str, times: int = 1 << 30) -> Fault:
    """Refuses requests for what has this in its path, so many times."""
    left = [times]

    def fault(request: Proxied) -> bool:
        if named not in request.path or left[0] <= 0:
            return False
        left[0] -= 1
        reason = f"<Error><Code>Injected</Code><Message>{code}</Message></Error>"
        request.answer(code, [("Content-Type", "application/xml")], reason.encode())
        return True

    return fault


def cut(named: str, length: int, times: int = 1 << 30) -> Fault:
    """Breaks the connection after so many bytes of a body that is read."""
    left = [times]

    def fault(request: Proxied) -> bool:
        if named not in request.path or request.command != "GET" or left[0] <= 0:
            return False
        left[0] -= 1
        found = request.proxy.ask("GET", request.path, b"", dict(request.headers))
        request.answer(*found, cut=length)
        return True

    return fault


@contextmanager
def bucket_server() -> Iterator[SlowProxy]:
    """A server with a bucket called `bucket`; tests that need one are skipped without moto."""
    reason = "no moto: pip install 'moto[s3]' flask flask-cors"
    pytest.importorskip("obstore", reason="no obstore: pip install 'patchdict[remote]'")
    moto = pytest.importorskip("moto.server", reason=reason)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = SlowProxy(*server.get_host_and_port())
    try:
        code = proxy.ask("PUT", "/bucket", b"", {"Host": "127.0.0.1"})[0]
        assert code == 200
        yield proxy
    finally:
        proxy.close()
        server.stop()


ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
}
