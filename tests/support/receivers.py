"""A receiver of webhooks: a real HTTP server that records requests and answers as a test wants."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import orjson


class ReceivedRequest(NamedTuple):
    path: str
    headers: dict[str, str]
    """Values by lower-case name."""
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))


class Reply(NamedTuple):
    status: int = 204
    headers: Mapping[str, str] = {}
    body: bytes = b""


Responder = Callable[[ReceivedRequest], Reply]
OK = Reply()


class Receiver:
    def __init__(self, answer: Responder) -> None:
        self.answer = answer
        """Runs in the thread of its request, so it may block."""
        self.requests: list[ReceivedRequest] = []
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def find_requests(self, event: str | None = None) -> list[ReceivedRequest]:
        return [
            request
            for request in list(self.requests)
            if event is None or request.headers["x-pinbridge-event"] == event
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received = ReceivedRequest(
                    self.path, {name.lower(): value for name, value in self.headers.items()}, body
                )
                receiver.requests.append(received)
                reply = receiver.answer(received)
                self.send_response(reply.status)
                for name, value in {
                    **reply.headers,
                    "Content-Length": str(len(reply.body)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a sender that was killed or timed out."""


@contextmanager
def receiving(answer: Responder = lambda _: OK) -> Iterator[Receiver]:
    receiver = Receiver(answer)
    try:
        yield receiver
    finally:
        receiver.close()


def respond_with(*statuses: int) -> Responder:
    """Builds a responder that returns these statuses in order, then 204."""
    remaining = list(statuses)
    lock = threading.Lock()

    def answer(_: ReceivedRequest) -> Reply:
        with lock:
            return Reply(remaining.pop(0)) if remaining else OK

    return answer
