"""An HTTP server that answers like S3 in ways that a good S3 server does not: refusing, stopping short, lying."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """`key` is decoded; empty for a request about the bucket. Headers' names are in lower case."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Response:
    """`promised` is the Content-Length when it is not the body's: the connection closes short of it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None


def refusal(status: int, code: str) -> Response:
    return Response(status, f"<Error><Code>{code}</Code><Message>the-secret is in here</Message></Error>".encode())


@contextmanager
def serving(answer: Callable[[Request], Response]) -> Iterator[str]:
    """The endpoint of a server whose every answer the function gives."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            _, bucket, *key = parts.path.split("/", 2)
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            response = answer(
                Request(self.command, bucket, unquote("".join(key)), query, {name.lower(): value for name, value in self.headers.items()})
            )
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body) if response.promised is None else response.promised))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.body)
            self.close_connection = response.promised is not None

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
