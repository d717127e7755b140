"""A real HTTP server of images and videos, which answers as a test wants."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.support.http_server import HttpServer, SilentHandler, send

PNG = b"\x89PNG\r\n\x1a\n" + b"image" * 200
JPEG = b"\xff\xd8\xff\xe0" + b"image" * 200
VIDEO = b"\x00\x00\x00\x18ftypmp42" + b"video" * 200

Answer = Callable[[BaseHTTPRequestHandler], None]


class MediaServer(HttpServer):
    """Serves files by their paths. `answers` replace files. Unknown paths get 404."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        """The paths of the requests, in order."""
        super().__init__(self._handler())

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

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(SilentHandler):
            def do_GET(self) -> None:  # noqa: N802 - the base's name
                path = self.path.partition("?")[0]
                server.requests.append(path)
                if answer := server.answers.get(path):
                    answer(self)
                elif (content := server.files.get(path)) is not None:
                    # A wrong type on purpose: the bytes decide
                    send(self, 200, content, {"Content-Type": "text/html"})
                else:
                    send(self, 404)

        return Handler


def answer_status(status: int, **headers: str) -> Answer:
    return lambda handler: send(handler, status, b"", headers)


def redirect_to(url: str) -> Answer:
    return answer_status(302, Location=url)


def send_chunked(*chunks: bytes, **headers: str) -> Answer:
    """Answers without a length, unless `headers` have one."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            handler.send_header(name, value)
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
