"""A real HTTP server of images and videos, which answers as a test wants."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n" + b"image" * 200
JPEG = b"\xff\xd8\xff\xe0" + b"image" * 200
VIDEO = b"\x00\x00\x00\x18ftypmp42" + b"video" * 200

Answer = Callable[[BaseHTTPRequestHandler], None]


class MediaServer:
    """Serves files by their paths. `answers` replace files. Unknown paths get 404."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        """The paths of the requests, in order."""
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def serve(self, path: str, content: bytes) -> str:
        """Serves a file. Returns its URL."""
        self.files[path] = content
        return self.url(path)

    def answer(self, path: str, answer: Answer) -> str:
        """Answers a path's requests. Returns its URL."""
        self.answers[path] = answer
        return self.url(path)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                server.requests.append(path)
                if answer := server.answers.get(path):
                    answer(self)
                elif (content := server.files.get(path)) is not None:
                    # A wrong type on purpose: the bytes decide
                    send(self, 200, content, {"Content-Type": "text/html"})
                else:
                    send(self, 404)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a client that closed its connection."""


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    content: bytes = b"",
    headers: Mapping[str, str] = {},
) -> None:
    """Answers a request with a body of a known length."""
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def answer_status(status: int, **headers: str) -> Answer:
    return lambda handler: send(handler, status, b"", headers)


def redirect_to(url: str) -> Answer:
    return answer_status(302, Location=url)


def send_chunked(*chunks: bytes) -> Answer:
    """Answers without a length."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in (*chunks, b""):
            handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")

    return answer


@contextmanager
def serving_media() -> Iterator[MediaServer]:
    server = MediaServer()
    try:
        yield server
    finally:
        server.close()
