"""What the gateway adds: one address, nothing internal, a clear answer when a service is away."""

import json
from pathlib import Path

import httpx
import pytest

from services.status import system
from tests.deployment import Deployment


@pytest.mark.parametrize("path", ["/metrics", "/internal/readyz", "/internal/x"])
def test_what_is_internal_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("DELETE", "/v1/pins/imports/json", 405, "method_not_allowed"),
        ("DELETE", "/v1/pins/imports", 405, "method_not_allowed"),
        ("PUT", "/v1/pins/imports/01a2120b-ceed-7ea4-b50f-681084d1f2a3", 405, "method_not_allowed"),
        ("GET", "/v1/pins/imports?limit=0", 422, "invalid_parameter"),
        ("GET", "/v1/pins?limit=201", 422, "invalid_parameter"),
        ("GET", "/v1/pins/imports?status=bogus", 422, "invalid_parameter"),
        ("GET", "/v1/pins/imports/not-a-uuid", 404, "not_found"),
        ("GET", "/v1/schedules/not-a-uuid", 404, "not_found"),
    ],
)
def test_errors_have_a_code_whichever_service_answers(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (status, code)
    assert answer.headers["x-request-id"]


def test_a_given_request_id_comes_back(client: httpx.Client) -> None:
    assert client.get("/v1/pins", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"


def test_readiness_asks_everyone(client: httpx.Client) -> None:
    report = client.get("/readyz").json()
    assert report["status"] == "ok"
    assert report["checks"] == {"machinery": "ok", "database": "ok", "ingest": "ok", "publisher": "ok"}


def test_the_documentation_is_the_committed_one(client: httpx.Client) -> None:
    committed = (Path(system.__file__).parent / "openapi.json").read_text(encoding="utf-8")
    assert client.get("/openapi.json").json() == json.loads(committed)
    page = client.get("/docs")
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]


@pytest.mark.parametrize("host", ["localhost", "pinflow.example:8080", "10.1.2.3"])
def test_it_answers_under_whatever_name_it_is_asked_for(client: httpx.Client, host: str) -> None:
    answer = client.get("/v1/pins", headers={"Host": host})
    assert (answer.status_code, answer.json()) == (200, [])


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/pins/imports/json", content=b"[" + b" " * 6 * 1024 * 1024 + b"]", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["detail"]["code"]) == (413, "payload_too_large")


def test_a_service_that_is_away_is_a_503_with_retry_after(pinflow: Deployment, client: httpx.Client) -> None:
    pinflow.programs["publisher"].kill()
    try:
        answer = client.get("/v1/pins")
        assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "service_unavailable")
        assert answer.headers["retry-after"] == "1"
        report = client.get("/readyz")
        assert (report.status_code, report.json()["checks"]["publisher"]) == (503, "no answer")
    finally:
        pinflow.restart("publisher")
        pinflow.wait_until_ready()
