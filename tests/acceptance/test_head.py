"""The gateway answers HEAD on every path on which it answers GET."""

import httpx
import pytest

from deploy.administration import NewWorkspace
from deploy.services import SERVICES
from tests.acceptance.patience import get_and_head
from tests.support.deployment import Deployment, wait_for_job
from tests.support.factories import submitted_row

UNKNOWN = "01a2120b-ceed-7ea4-b50f-681084d1f2a3"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/docs", 200),
        ("/docs/errors", 200),
        ("/openapi.json", 200),
        ("/metrics", 404),
        ("/internal/readyz", 404),
        ("/v1/nothing", 404),
        ("/v1/pins", 200),
        (f"/v1/pins/{UNKNOWN}", 404),
        ("/v1/pins?limit=201", 422),
        ("/v1/pins?limt=20", 422),
        ("/v1/pins/imports", 200),
        (f"/v1/pins/imports/{UNKNOWN}", 404),
        (f"/v1/pins/imports/{UNKNOWN}/results", 404),
        (f"/v1/pins/imports/{UNKNOWN}/results.csv", 404),
        (f"/v1/pins/imports/{UNKNOWN}/rows/1", 404),
        (f"/v1/pins/imports/{UNKNOWN}/undo", 405),
        ("/v1/pins/imports/json", 405),
        ("/v1/schedules", 200),
        ("/v1/pinterest/accounts", 200),
        ("/v1/api-keys", 200),
        ("/v1/webhooks", 200),
        ("/v1/projects", 501),
    ],
)
def test_head_has_the_status_and_the_length_of_get_and_no_body(
    client: httpx.Client, path: str, status: int
) -> None:
    got, head = get_and_head(client, path)
    assert (got.status_code, head.status_code, head.content) == (status, status, b"")
    assert head.headers.get("content-type") == got.headers.get("content-type")
    # HEAD left no body on the connection: the next answer is that of the next request
    assert client.get("/healthz").json()["status"] == "ok"
    if path != "/readyz":
        assert head.headers["content-length"] == str(len(got.content))


def test_head_of_an_import_has_the_statuses_of_get(
    client: httpx.Client, pinflow: Deployment, workspace: NewWorkspace
) -> None:
    row = submitted_row(account_id=str(workspace.accounts[0].id))
    accepted = client.post("/v1/pins/imports/json", json=[row])
    wait_for_job(client, accepted.json()["id"])
    location = accepted.headers["location"]
    assert client.head(location).status_code == 200
    stranger = httpx.head(f"{pinflow.base_url}{location}", timeout=40, trust_env=False)
    assert stranger.status_code == 401


@pytest.mark.parametrize("service", sorted(SERVICES))
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_head_works_at_each_service(pinflow: Deployment, service: str, path: str) -> None:
    url = pinflow.service_url(service)
    with httpx.Client(base_url=url, timeout=40, trust_env=False) as direct:
        got, head = get_and_head(direct, path)
        assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
        assert int(head.headers["content-length"]) > 0
        # HEAD left no body on the connection
        assert direct.get("/healthz").status_code == 200


def test_head_of_readyz_is_503_while_a_service_is_down(
    pinflow: Deployment, client: httpx.Client
) -> None:
    pinflow.programs["publisher"].kill()
    try:
        head = client.head("/readyz")
        assert (head.status_code, head.content) == (503, b"")
        lists = client.head("/v1/pins")
        assert (lists.status_code, lists.content) == (503, b"")
        assert client.head("/healthz").status_code == 200
    finally:
        pinflow.restart("publisher")
        pinflow.wait_until_ready()


def test_a_405_of_the_gateway_allows_head_and_get(client: httpx.Client) -> None:
    refused = client.delete("/v1/pins/imports")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
