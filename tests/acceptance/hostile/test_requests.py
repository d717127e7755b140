"""Sends every request of the catalogue to the gateway and directly to the service.

Each gets the expected status and code, and no answer has internal details. The only 5xx are 501
`not_supported`, and the HTTP parser's 501 and 505.
"""

import re
from collections.abc import Iterator

import httpx
import orjson
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.hostile.catalogue import EVERYTHING
from tests.acceptance.hostile.conftest import memory_bounded
from tests.acceptance.hostile.requests import Expected, Hostile
from tests.acceptance.hostile.wire import Answer, Caller, Connection
from tests.support.deployment import Deployment, wait_for_job

INTERNAL_DETAILS = re.compile(
    rb"Traceback|File \"|\.py\b|/site-packages|/tmp/|"
    rb"psycopg|sqlalchemy|orjson|pydantic|\bselect .+ from\b",
    re.IGNORECASE,
)
"""Texts that no client may see."""
MAX_GROWTH = 150 * 1024 * 1024
"""Bytes by which a process may grow during all requests.

A body has up to 5 MiB, and its parsed objects up to ten times as much.
"""


@pytest.fixture(scope="module")
def accepted(
    pinflow: Deployment, client: httpx.Client, warm: dict[str, int]
) -> Iterator[list[str]]:
    """A list to which tests add the jobs of accepted imports.

    At the end the fixture requires that no other import exists and that memory is bounded.
    """
    jobs: list[str] = []
    before = int(client.get("/v1/pins/imports").headers["x-total-count"])
    with memory_bounded(pinflow, warm, MAX_GROWTH):
        yield jobs
    assert int(client.get("/v1/pins/imports").headers["x-total-count"]) == before + len(jobs)


@pytest.mark.parametrize("hostile", EVERYTHING, ids=lambda hostile: hostile.name)
def test_through_the_gateway(
    pinflow: Deployment, caller: Caller, client: httpx.Client, accepted: list[str], hostile: Hostile
) -> None:
    answer = _check(pinflow.ports["gateway"], caller, hostile, hostile.gateway)
    if hostile.gateway.row:
        accepted.append(_follow(client, answer, hostile.gateway))


@pytest.mark.parametrize("hostile", EVERYTHING, ids=lambda hostile: hostile.name)
def test_directly_at_the_service(
    pinflow: Deployment, caller: Caller, client: httpx.Client, accepted: list[str], hostile: Hostile
) -> None:
    answer = _check(pinflow.ports[hostile.service], caller, hostile, hostile.directly)
    if hostile.directly.row:
        accepted.append(_follow(client, answer, hostile.directly))


def _check(port: int, caller: Caller, hostile: Hostile, expected: Expected) -> Answer:
    with Connection(port) as connection:
        answer = connection.send(hostile.request.raw(caller)).read_answer(hostile.request.method)
    assert (answer.status, answer.code) == (expected.status, expected.code), answer
    assert not INTERNAL_DETAILS.search(answer.body), answer
    assert "x-injected" not in answer.headers, answer
    is_allowed = answer.code == "not_supported" or not answer.code
    assert answer.status < 500 or (answer.status in {501, 505} and is_allowed), (
        "a 5xx that is neither the HTTP parser's nor 501 not_supported"
    )
    if answer.code:
        assert orjson.loads(answer.body)["detail"]["message"]
    return answer


def _follow(client: httpx.Client, answer: Answer, expected: Expected) -> str:
    job_id = str(orjson.loads(answer.body)["id"])
    assert answer.headers["location"] == f"/v1/pins/imports/{job_id}"
    job = wait_for_job(client, job_id)
    assert job["results"][0]["status"] == expected.row, job["results"][0]
    return job_id


def test_texts_are_kept_as_data(workspace: NewWorkspace, client: httpx.Client) -> None:
    """A pin keeps text that a spreadsheet, shell, terminal or database could execute."""
    title = (
        "=cmd|'/c calc'!A0 \u202e\x9b31m\r\n'; drop table publisher.pins; -- {{7*7}} "
        "${jndi:ldap://x} <script>"
    )
    account = workspace.accounts[0]
    pin = {
        "account_id": str(account.id),
        "board_id": account.boards[0],
        "title": title,
        "idempotency_key": title,
    }
    created = client.post("/v1/pins", json={**pin, "image_url": "https://a.example/x.png"})
    assert (created.status_code, created.json()["title"], created.json()["idempotency_key"]) == (
        201,
        title,
        title,
    )
    assert client.get(f"/v1/pins/{created.json()['id']}").json()["title"] == title
    assert title in [
        pin["title"]
        for pin in client.get("/v1/pins", params={"board_id": account.boards[0]}).json()
    ]


@pytest.mark.parametrize(
    "ending", [b"", rb',"description":"\ud800"'], ids=["quick parser", "slow parser"]
)
def test_the_last_of_duplicate_names_wins_in_both_parsers(
    caller: Caller, client: httpx.Client, accepted: list[str], ending: bytes
) -> None:
    """A lone surrogate in another row makes ingest use the slow parser."""
    row_start = (
        b'{"title":"first","title":"second","idempotency_key":"%NONCE%",'
        b'"account_id":"%ACCOUNT%","board_id":"%BOARD%",'
    )
    body = (
        b"[" + row_start + b'"image_url":"https://a.example/x.png"},{"title":"x"' + ending + b"}]"
    )
    answer = client.post(
        "/v1/pins/imports/json",
        content=caller.fill(body),
        headers={"Content-Type": "application/json"},
    )
    accepted.append(answer.json()["id"])
    first = wait_for_job(client, accepted[-1])["results"][0]
    assert client.get(f"/v1/pins/{first['pin_id']}").json()["title"] == "second"
