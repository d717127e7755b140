"""Invariant 10 and keys, for every endpoint there is: one without a scenario here fails the test that walks the routes."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from deploy.administration import NewWorkspace
from deploy.openapi import applications, document
from services.ingest.identity import new_job_id
from shared.access.keys import Scope, new_api_key
from shared.access.repository import AccessRepository
from tests.acceptance.conftest import administer, new_workspace
from tests.acceptance.rows import rows_for
from tests.deployment import Deployment, job_of

Operation = tuple[str, str]

DOCUMENT = document()
OPERATIONS: dict[Operation, dict[str, Any]] = {
    (method.upper(), path): operation for path, operations in DOCUMENT["paths"].items() for method, operation in operations.items()
}
PUBLIC: set[Operation] = {("GET", "/"), ("GET", "/healthz"), ("GET", "/readyz")}
"""What answers without a key, as it tells nothing of any workspace."""
UNDOCUMENTED = PUBLIC | {("GET", path) for path in ("/metrics", "/internal/readyz", "/openapi.json", "/docs")}
"""What a route may be that OpenAPI does not name."""
GUARDED = sorted(set(OPERATIONS) - PUBLIC)


@dataclass(frozen=True)
class Tenants:
    """The owner has a published pin, a schedule and an import; the other tries to get at them; a stranger has nothing at all."""

    owner: NewWorkspace
    other: NewWorkspace
    mine: httpx.Client
    """The owner's."""
    theirs: httpx.Client
    strangers: httpx.Client
    job: dict[str, Any]

    @property
    def account(self) -> str:
        return str(self.owner.accounts[0].id)

    @property
    def pin(self) -> str:
        return str(self.job["results"][0]["pin_id"])

    @property
    def schedule(self) -> str:
        return str(self.job["results"][1]["schedule_id"])


@pytest.fixture(scope="module")
def tenants(pinflow: Deployment, database_url: str) -> Iterator[Tenants]:
    owner, other, stranger = (new_workspace(database_url, name) for name in ("Owner", "Other", "Stranger"))
    clients = [client_of(pinflow, workspace.api_key) for workspace in (owner, other, stranger)]
    with clients[0] as mine, clients[1] as theirs, clients[2] as strangers:
        published, scheduled = rows_for(owner, 2, prefix="owned")
        scheduled["run_at"] = (datetime.now(UTC) + timedelta(days=30)).isoformat()
        accepted = mine.post("/v1/pins/imports/json", json=[published, scheduled])
        job = job_of(mine, accepted.json()["id"])
        assert (job["status"], job["created_rows"]) == ("completed", 2), pinflow.logs()
        yield Tenants(owner, other, mine, theirs, strangers, job)


def client_of(pinflow: Deployment, key: str | None) -> httpx.Client:
    headers = {"X-API-Key": key} if key else {}
    return httpx.Client(base_url=pinflow.base_url, headers=headers, timeout=40, trust_env=False)


def one_thing(path: str, owned: Callable[[Tenants], str], unknown: Callable[[], object] = uuid4) -> Callable[[Tenants], None]:
    """What the owner can read is to the other what does not exist: to the letter."""

    def check(tenants: Tenants) -> None:
        assert tenants.mine.get(path.format(owned(tenants))).status_code == HTTPStatus.OK
        foreign, absent = tenants.theirs.get(path.format(owned(tenants))), tenants.theirs.get(path.format(unknown()))
        assert (foreign.status_code, foreign.json()) == (absent.status_code, absent.json())
        assert (foreign.status_code, foreign.json()["detail"]["code"]) == (HTTPStatus.NOT_FOUND, "not_found")
        assert _varying(foreign) == _varying(absent)

    return check


def _without(text: str, asked: str) -> str:
    """What is said apart from repeating what was asked for."""
    return text.replace(asked, "…")


def _varying(answer: httpx.Response) -> list[str]:
    return sorted(name for name in answer.headers if name not in {"date", "x-request-id"})


def a_list(path: str, *filters: Callable[[Tenants], str]) -> Callable[[Tenants], None]:
    """The owner sees something; a stranger nothing, and no count of it, even asking by the owner's ids."""

    def check(tenants: Tenants) -> None:
        assert len(tenants.mine.get(path).json()) > 0
        for query in ("", *(one(tenants) for one in filters)):
            listed = tenants.strangers.get(path + query)
            assert (listed.status_code, listed.json()) == (HTTPStatus.OK, [])
            assert listed.headers.get("x-total-count", "0") == "0"

    return check


def accounts_are_each_ones_own(tenants: Tenants) -> None:
    mine, theirs = ({one["id"] for one in client.get("/v1/pinterest/accounts").json()} for client in (tenants.mine, tenants.theirs))
    assert mine == {str(account.id) for account in tenants.owner.accounts}
    assert theirs == {str(account.id) for account in tenants.other.accounts}


def rows_for_a_foreign_account_fail_as_for_none(path: str) -> Callable[[Tenants], None]:
    """An import into the owner's account fails row by row, as one into an account that does not exist; the owner learns nothing of it."""

    def check(tenants: Tenants) -> None:
        foreign = rows_for(tenants.owner, 1, prefix=f"foreign-{uuid4()}")[0]
        absent = {**foreign, "account_id": str(uuid4()), "idempotency_key": f"absent-{uuid4()}"}
        taken = {**rows_for(tenants.other, 1, prefix="x")[0], "idempotency_key": "owned-1"}  # the owner's key is free to the other
        rows = [foreign, absent, taken]
        if path.endswith("csv"):
            names = list(foreign)
            text = "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)])
            accepted = tenants.theirs.post(path, files={"file": ("rows.csv", text.encode(), "text/csv")})
        else:
            accepted = tenants.theirs.post(path, json=rows)
        job = job_of(tenants.theirs, accepted.json()["id"])
        one, another, third = job["results"]
        assert (one["status"], one["error_code"]) == ("failed", "account_not_found")
        assert _without(one["error_message"], foreign["account_id"]) == _without(another["error_message"], absent["account_id"])
        assert third["status"] in {"created", "existing"}  # by the other scenario's import
        assert third["pin_id"] != tenants.pin
        assert tenants.mine.get(f"/v1/pins/imports/{job['id']}").status_code == HTTPStatus.NOT_FOUND

    return check


def a_pin_for_a_foreign_account_is_refused_as_for_none(tenants: Tenants) -> None:
    foreign = rows_for(tenants.owner, 1, prefix=f"direct-{uuid4()}")[0]
    refused = tenants.theirs.post("/v1/pins", json=foreign)
    unknown = str(uuid4())
    absent = tenants.theirs.post("/v1/pins", json={**foreign, "account_id": unknown})
    assert _without(refused.text, foreign["account_id"]) == _without(absent.text, unknown)
    assert refused.status_code == absent.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    row = {**rows_for(tenants.other, 1, prefix="x")[0], "idempotency_key": "owned-1"}
    assert tenants.theirs.post("/v1/pins", json=row).json()["id"] != tenants.pin


def of_account(tenants: Tenants) -> str:
    return f"?account_id={tenants.account}"


SCENARIOS: dict[Operation, Callable[[Tenants], None]] = {
    ("GET", "/v1/pins/imports"): a_list("/v1/pins/imports", lambda _: "?status=completed", lambda _: "?source_type=json"),
    ("GET", "/v1/pins/imports/{job_id}"): one_thing(
        "/v1/pins/imports/{}", lambda tenants: tenants.job["id"], lambda: new_job_id(datetime.now(UTC))
    ),
    ("POST", "/v1/pins/imports/json"): rows_for_a_foreign_account_fail_as_for_none("/v1/pins/imports/json"),
    ("POST", "/v1/pins/imports/csv"): rows_for_a_foreign_account_fail_as_for_none("/v1/pins/imports/csv"),
    ("GET", "/v1/pins"): a_list("/v1/pins", of_account, lambda tenants: f"{of_account(tenants)}&board_id=board-1"),
    ("POST", "/v1/pins"): a_pin_for_a_foreign_account_is_refused_as_for_none,
    ("GET", "/v1/pins/{pin_id}"): one_thing("/v1/pins/{}", lambda tenants: tenants.pin),
    ("GET", "/v1/schedules/{schedule_id}"): one_thing("/v1/schedules/{}", lambda tenants: tenants.schedule),
    ("GET", "/v1/pinterest/accounts"): accounts_are_each_ones_own,
    ("GET", "/v1/pinterest/boards"): one_thing("/v1/pinterest/boards?account_id={}", lambda tenants: tenants.account),
}
"""How another workspace tries to get at what is the owner's."""


def test_invariant_10_every_endpoint_has_a_scenario_with_two_workspaces() -> None:
    assert set(SCENARIOS) == set(GUARDED)
    assert set(OPERATIONS) >= PUBLIC


def test_every_route_is_documented_or_known_to_tell_nothing() -> None:
    routes = {
        (method, route.path)
        for application in applications()
        for route in iter_route_contexts(application.routes)
        for method in route.methods or ()
    }
    assert routes <= set(OPERATIONS) | UNDOCUMENTED
    assert set(GUARDED) <= routes


def test_every_operation_that_is_not_public_wants_a_key() -> None:
    assert {operation for operation, described in OPERATIONS.items() if "security" not in described} == PUBLIC


@pytest.mark.parametrize("operation", SCENARIOS, ids=" ".join)
def test_invariant_10_what_is_anothers_is_what_does_not_exist(tenants: Tenants, operation: Operation) -> None:
    SCENARIOS[operation](tenants)


def ask(client: httpx.Client, operation: Operation, **headers: str) -> httpx.Response:
    """A request of the right form with nothing good in it: whoever may ask gets past the key to another error, or a page."""
    method, path = operation
    return client.request(method, re.sub(r"\{\w+\}", str(uuid4()), path), headers=headers)


@pytest.mark.parametrize("operation", GUARDED, ids=" ".join)
def test_without_a_good_key_every_endpoint_is_401(pinflow: Deployment, operation: Operation) -> None:
    wrong = new_api_key().plain
    with client_of(pinflow, None) as nobody:
        for headers in ({}, {"X-API-Key": wrong}, {"Authorization": f"Bearer {wrong}"}, {"Authorization": "Basic YTpi"}):
            answer = ask(nobody, operation, **headers)
            assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture(scope="module")
def narrow_keys(tenants: Tenants, database_url: str) -> dict[Scope, str]:
    """A key with one scope each."""
    keys = {scope: new_api_key() for scope in Scope}

    async def create(access: AccessRepository) -> None:
        for scope, key in keys.items():
            await access.create_key(tenants.owner.id, key, name=scope, scopes=[scope])

    administer(database_url, create)
    return {scope: key.plain for scope, key in keys.items()}


@pytest.mark.parametrize("operation", GUARDED, ids=" ".join)
def test_a_key_without_the_scope_is_403(pinflow: Deployment, narrow_keys: dict[Scope, str], operation: Operation) -> None:
    needed = Scope.READ if operation[0] == "GET" else Scope.WRITE
    for scope, key in narrow_keys.items():
        with client_of(pinflow, key) as client:
            answer = ask(client, operation)
        if scope is needed:
            assert answer.status_code not in {401, 403}
        else:
            detail = answer.json()["detail"]
            assert (answer.status_code, detail["code"], detail["required_scope"]) == (403, "insufficient_scope", needed)
