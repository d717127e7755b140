"""What the gateway adds: one address, nothing internal, a clear answer when a service is away."""

import sys

import httpx
import pytest

from deploy.administration import NewWorkspace
from deploy.local import gateway
from deploy.services import CHECKED_SERVICES
from services.status.config import StatusSettings
from tests.support.deployment import Deployment


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
def test_errors_have_a_code_whichever_service_answers(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (status, code)
    assert answer.headers["x-request-id"]


def test_a_given_request_id_comes_back(client: httpx.Client) -> None:
    assert (
        client.get("/v1/pins", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"]
        == "mine-1"
    )


def test_readiness_asks_everyone(client: httpx.Client) -> None:
    report = client.get("/readyz").json()
    assert report["status"] == "ok"
    assert report["checks"] == {
        "runtime": "ok",
        "database": "ok",
        **dict.fromkeys(CHECKED_SERVICES, "ok"),
    }


@pytest.mark.parametrize(
    ("path", "file", "kind"),
    [
        ("/openapi.json", "openapi.json", "application/json"),
        ("/docs", "docs.html", "text/html; charset=utf-8"),
    ],
)
def test_the_documentation_is_the_committed_one(
    client: httpx.Client, path: str, file: str, kind: str
) -> None:
    answer = client.get(path, headers={"X-Request-ID": "mine-2"})
    assert answer.content == (gateway.DIRECTORY / file).read_bytes()
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["x-request-id"] == "mine-2"
    head = client.head(path)
    assert (head.status_code, head.headers["content-type"], head.content) == (200, kind, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    assert head.headers["x-request-id"]


def test_the_documentation_is_only_read(client: httpx.Client) -> None:
    answer = client.post("/docs", json={})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/docs.html", "/Caddyfile", "/docs/../Caddyfile"])
def test_the_gateway_shows_no_other_file(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("host", ["localhost", "pinflow.example:8080", "10.1.2.3"])
def test_it_answers_under_whatever_name_it_is_asked_for(client: httpx.Client, host: str) -> None:
    answer = client.get("/v1/pins", headers={"Host": host})
    assert (answer.status_code, answer.json()) == (200, [])


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/pins/imports/json",
        content=b"[" + b" " * 6 * 1024 * 1024 + b"]",
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["detail"]["code"]) == (413, "payload_too_large")


def test_a_service_that_is_away_is_a_503_with_retry_after(
    pinflow: Deployment, client: httpx.Client
) -> None:
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


def wrong_keys(office: httpx.Client, most: int) -> list[httpx.Response]:
    """The answers to tries that each say they are someone else's, up to the first that is neither
    believed nor looked up.
    """
    answers: list[httpx.Response] = []
    while len(answers) < most and (not answers or answers[-1].status_code == 401):
        headers = {
            "X-API-Key": f"wrong-{len(answers)}",
            "X-Forwarded-For": f"198.51.100.{len(answers) % 256}",
        }
        answers.append(office.get("/v1/pins/imports", headers=headers))
    return answers


@pytest.mark.skipif(sys.platform == "darwin", reason="only 127.0.0.1 is the loopback's there")
def test_wrong_keys_are_counted_by_the_clients_own_address_whatever_it_says(
    pinflow: Deployment, workspace: NewWorkspace
) -> None:
    """By the gateway, which tells its client's address and drops what that one says; past it, where
    nobody but a trusted proxy is heard.
    """
    most = StatusSettings.model_fields["access_failed_tries"].default
    for url, address in (
        (pinflow.base_url, "127.0.0.2"),
        (pinflow.service_url("status"), "127.0.0.3"),
    ):
        with httpx.Client(
            base_url=url, transport=httpx.HTTPTransport(local_address=address), timeout=40
        ) as office:
            *unknown, refused = wrong_keys(
                office, 20 * most
            )  # a slow machine earns new tries meanwhile
            assert len(unknown) >= most
            assert (refused.status_code, refused.json()["detail"]["code"]) == (
                429,
                "too_many_attempts",
            )
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            good = office.get("/v1/pins/imports", headers={"X-API-Key": workspace.api_key})
            assert (good.status_code, good.json()) == (
                200,
                [],
            )  # though this process has not seen the key before, or not from here
    assert (
        httpx.get(
            f"{pinflow.base_url}/v1/pins/imports", headers={"X-API-Key": "wrong"}, trust_env=False
        ).status_code
        == 401
    )
