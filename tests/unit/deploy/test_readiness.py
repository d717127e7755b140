"""Checks what `make status` says of the readiness of a process."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from deploy.local.readiness import read_readiness


@contextmanager
def answering(answer: Callable[[str], tuple[int, Any]]) -> Iterator[int]:
    """Serves `answer(path)`, a status and a document, at the yielded port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "checks", "shown"),
    [
        (200, {"database": "ok", "kafka": "ok"}, "ready"),
        (200, {"database": "ok", "webhooks": "no answer"}, "degraded: webhooks: no answer"),
        (503, {"database": "ok", "kafka": "away"}, "not ready: kafka: away"),
    ],
)
def test_a_process_is_shown_with_its_failed_checks(
    status: int, checks: dict[str, str], shown: str
) -> None:
    with answering(lambda _: (status, {"status": "…", "checks": checks})) as port:
        assert read_readiness({"ingest": port}) == {"ingest": shown}


def test_the_status_service_is_asked_about_itself_and_not_about_all_services() -> None:
    def answer(path: str) -> tuple[int, Any]:
        return (200, {"status": "ok"}) if path == "/internal/readyz" else (503, {"status": "down"})

    with answering(answer) as port:
        assert read_readiness({"status": port, "gateway": port}) == {
            "status": "ready",
            "gateway": "not ready: down",
        }


def test_a_process_that_does_not_answer_is_not_ready() -> None:
    with answering(lambda _: (200, {})) as port:
        pass
    (shown,) = read_readiness({"ingest": port}).values()
    assert shown.startswith("not ready: no answer (")
