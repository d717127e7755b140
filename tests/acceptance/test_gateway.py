"""Tests the gateway: one address, no internal paths, a clear answer if a service is down."""

import re
import sys

import httpx
import pytest

from deploy.administration import NewWorkspace
from deploy.local import gateway
from deploy.services import CHECKED_SERVICES
from services.status.config import StatusSettings
from tests.acceptance.patience import read_readiness
from tests.support.deployment import Deployment


@pytest.mark.parametrize("path", ["/metrics", "/internal/readyz", "/internal/x"])
def test_internal_paths_are_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (404, "not_found")
    assert detail["message"].endswith("docs/how-to/run-in-production.md#monitor")


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
        ("GET", "/v1/pins/imports?stat=done", 422, "unknown_parameter"),
        ("GET", "/v1/pins?status=failed&status=queued", 422, "invalid_parameter"),
        ("GET", "/v1/pinterest/accounts?fresh=1", 422, "unknown_parameter"),
        ("GET", "/v1/webhooks?limit=5", 422, "unknown_parameter"),
        ("DELETE", "/v1/api-keys/not-a-uuid?force=1", 422, "unknown_parameter"),
        ("POST", "/v1/pins/imports/csv?stric=1", 422, "unknown_parameter"),
        ("GET", "/v1/pins/01a2120b-ceed-7ea4-b50f-681084d1f2a3?utm_source=x", 404, "not_found"),
        ("GET", "/v1/pinterest/oauth/callback?code=1&state=2&scope=3", 409, "pinterest_off"),
        ("GET", "/v1/pinterest/terms/related?terms=1&account_id=2", 501, "not_supported"),
        ("GET", "/v1/projects?page=1", 501, "not_supported"),
        ("BREW", "/v1/pins", 400, "invalid_request"),
        ("POST", "/docs/errors", 405, "method_not_allowed"),
        ("GET", "/v1/pins/imports/not-a-uuid", 404, "not_found"),
        ("GET", "/v1/schedules/not-a-uuid", 404, "not_found"),
    ],
)
def test_errors_of_every_service_have_a_code(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (status, code)
    page, _, anchor = detail["help"].partition("#")
    assert (page, anchor) == ("/docs/errors", code)
    assert f'id="{anchor}"' in client.get(page).text


@pytest.mark.parametrize("path", ["/v1/pins", "/v1/nothing", "/healthz?x=1", "/readyz?y=2"])
def test_every_answer_of_a_service_has_a_request_id(client: httpx.Client, path: str) -> None:
    assert client.get(path).headers["x-request-id"]


def test_an_upload_with_a_misspelled_option_gets_its_answer_while_it_is_sent(
    client: httpx.Client,
) -> None:
    body = b"[" + b" " * 4 * 1024 * 1024 + b"]"
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/pins/imports/json?stric=true", content=body, headers=headers)
    assert answer.status_code == 422
    assert "strict" in answer.json()["detail"]["parameters"]


def test_the_answer_repeats_the_clients_request_id(client: httpx.Client) -> None:
    assert (
        client.get("/v1/pins", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"]
        == "mine-1"
    )


def test_readiness_checks_every_service(client: httpx.Client) -> None:
    report = read_readiness(client, lambda answer: bool(answer.json()["status"] == "ok")).json()
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
        ("/docs/errors", "errors.html", "text/html; charset=utf-8"),
    ],
)
def test_the_documentation_is_the_committed_one(
    client: httpx.Client, path: str, file: str, kind: str
) -> None:
    plain = {"X-Request-ID": "mine-2", "Accept-Encoding": "identity"}
    answer = client.get(path, headers=plain)
    assert answer.content == (gateway.DIRECTORY / file).read_bytes()
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["x-request-id"] == "mine-2"
    head = client.head(path, headers=plain)
    assert (head.status_code, head.headers["content-type"], head.content) == (200, kind, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    assert head.headers["x-request-id"]


def find_script(page: httpx.Response) -> str:
    (script,) = re.findall(r'<script src="([^"]+)"', page.text)
    return str(script)


def test_the_reference_page_loads_nothing_from_other_hosts(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "http" not in policy + page.text
    script = client.get(find_script(page))
    assert (script.status_code, script.headers["content-type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    assert "immutable" in script.headers["cache-control"]


def test_documents_are_compressed_and_answers_of_the_api_are_not(client: httpx.Client) -> None:
    script = find_script(client.get("/docs"))
    encodings = {
        path: client.get(path, headers={"Accept-Encoding": "gzip"}).headers.get("content-encoding")
        for path in ("/openapi.json", script, "/v1/api-keys")
    }
    assert encodings == {"/openapi.json": "gzip", script: "gzip", "/v1/api-keys": None}


def test_the_documentation_is_read_only(client: httpx.Client) -> None:
    answer = client.post("/docs", json={})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/docs.html", "/errors.html", "/Caddyfile", "/docs/../Caddyfile"])
def test_the_gateway_shows_no_other_file(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("host", ["localhost", "pinflow.example:8080", "10.1.2.3"])
def test_the_gateway_answers_for_any_host_name(client: httpx.Client, host: str) -> None:
    answer = client.get("/v1/pins", headers={"Host": host})
    assert (answer.status_code, answer.json()) == (200, [])


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/pins/imports/json",
        content=b"[" + b" " * 6 * 1024 * 1024 + b"]",
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["detail"]["code"]) == (413, "payload_too_large")


def test_a_service_that_is_down_is_a_503_with_retry_after(
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


def send_wrong_keys(client: httpx.Client, max_requests: int) -> list[httpx.Response]:
    """Sends wrong keys, each with a different X-Forwarded-For, until an answer is not 401.

    Returns all answers.
    """
    answers: list[httpx.Response] = []
    while len(answers) < max_requests and (not answers or answers[-1].status_code == 401):
        headers = {
            "X-API-Key": f"wrong-{len(answers)}",
            "X-Forwarded-For": f"198.51.100.{len(answers) % 256}",
        }
        answers.append(client.get("/v1/pins/imports", headers=headers))
    return answers


def is_good_key_accepted(client: httpx.Client, key: str) -> bool:
    """Sends a good key when the address has no attempt left.

    On a busy machine its look-up may take longer than the 0.5 s that such an address gets.
    """
    assert send_wrong_keys(client, 100)[-1].status_code == 429
    good = client.get("/v1/pins/imports", headers={"X-API-Key": key})
    return (good.status_code, good.json()) == (200, [])


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has only 127.0.0.1 on the loopback")
def test_wrong_keys_are_counted_by_the_real_address_despite_x_forwarded_for(
    pinflow: Deployment, workspace: NewWorkspace
) -> None:
    """The gateway replaces X-Forwarded-For. A service accepts it from trusted proxies only."""
    max_attempts = StatusSettings.model_fields["access_failed_tries"].default
    for url, address in (
        (pinflow.base_url, "127.0.0.2"),
        (pinflow.service_url("status"), "127.0.0.3"),
    ):
        with httpx.Client(
            base_url=url, transport=httpx.HTTPTransport(local_address=address), timeout=40
        ) as office:
            # On a slow machine the bucket refills meanwhile
            *unauthorized, refused = send_wrong_keys(office, 20 * max_attempts)
            assert len(unauthorized) >= max_attempts
            assert (refused.status_code, refused.json()["detail"]["code"]) == (
                429,
                "too_many_attempts",
            )
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            # A good key works, even if this process has not seen it before
            assert any(is_good_key_accepted(office, workspace.api_key) for _ in range(5))
    elsewhere = httpx.get(
        f"{pinflow.base_url}/v1/pins/imports",
        headers={"X-API-Key": "wrong"},
        timeout=40,
        trust_env=False,
    )
    assert elsewhere.status_code == 401
