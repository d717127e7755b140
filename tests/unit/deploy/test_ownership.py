"""A stack finds out whether the process at an address belongs to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.local.ownership import ForeignServer, find_service_problem


@contextmanager
def serve(status: int, **headers: str) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("status", [200, 503])
def test_a_process_of_this_installation_is_recognized_by_its_id(status: int) -> None:
    with serve(status, X_Pinflow_Installation="ours") as port:
        assert find_service_problem("ingest", port, "ours") is None


@pytest.mark.parametrize(
    ("headers", "other"),
    [
        ({"X_Pinflow_Installation": "theirs"}, "Another installation of Pinflow"),
        ({}, "Another program"),
    ],
)
def test_another_server_at_the_address_is_named(headers: dict[str, str], other: str) -> None:
    with serve(200, **headers) as port, pytest.raises(ForeignServer, match=f"^{other} answers"):
        find_service_problem("ingest", port, "ours")


def test_a_service_that_the_gateway_does_not_reach_is_a_problem_to_wait_for() -> None:
    with serve(503) as port:
        assert "no answer from gateway" in (find_service_problem("gateway", port, "ours") or "")
    assert "no answer from gateway" in (find_service_problem("gateway", port, "ours") or "")
