"""A receiver of webhooks: a real HTTP server that records requests and answers as a test wants."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

import orjson

from tests.support.http_server import HttpServer, SilentHandler, send


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


class Receiver(HttpServer):
    def __init__(self, answer: Responder) -> None:
        self.answer = answer
        """Runs in the thread of its request, so it may block."""
        self.requests: list[ReceivedRequest] = []
        super().__init__(self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def find_requests(self, event: str | None = None) -> list[ReceivedRequest]:
        return [
            request
            for request in list(self.requests)
            if event is None or request.headers["x-pinbridge-event"] == event
        ]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(SilentHandler):
            def do_POST(self) -> None:  # noqa: N802 - the base's name
                body = self.rfile.read(int(self.headers["content-length"]))
                received = ReceivedRequest(
                    self.path, {name.lower(): value for name, value in self.headers.items()}, body
                )
                receiver.requests.append(received)
                reply = receiver.answer(received)
                send(self, reply.status, reply.body, reply.headers)

        return Handler


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
