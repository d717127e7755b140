"""Invariant 10, keys and their limits, for every endpoint there is: one without a scenario fails
the test that walks the routes.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from deploy.administration import OperatorRepository
from deploy.generate.applications import create_applications
from deploy.generate.openapi import build_document
from services.status.unsupported import AREAS
from shared.access.keys import Scope, new_api_key
from tests.acceptance.conftest import administer, deployed_afresh
from tests.acceptance.tenancy.allow_lists import OF_THE_WORKSPACE, PERMITTED
from tests.acceptance.tenancy.tenants import Tenants, client_of, tenancy
from tests.acceptance.tenancy.workspaces import SCENARIOS, Operation
from tests.support.deployment import Deployment
from tests.support.infrastructure import Servers

DOCUMENT = build_document()
OPERATIONS: dict[Operation, dict[str, Any]] = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
PUBLIC: set[Operation] = {("GET", "/"), ("GET", "/healthz"), ("GET", "/readyz")}
"""What answers without a key, as it tells nothing of any workspace."""
LEFT_OUT = {
    (method, path)
    for area in AREAS
    for method, path in (operation.split(" ") for operation in area.operations)
}
"""Answers 501, whoever asks."""
UNDOCUMENTED = (
    PUBLIC
    | LEFT_OUT
    | {
        ("GET", path)
        for path in (
            "/metrics",
            "/internal/readyz",
            "/internal/imports/{job_id}",
        )
    }
    | {("POST", "/internal/key-usage")}
)
"""What a route may be that OpenAPI does not name."""
GUARDED = sorted(set(OPERATIONS) - PUBLIC)


@pytest.fixture(scope="module")
def pinflow(tmp_path_factory: pytest.TempPathFactory, stack: Servers) -> Iterator[Deployment]:
    """Deploys Pinflow with room for all the wrong keys that are tried here."""
    with deployed_afresh(
        tmp_path_factory.mktemp("tenancy"), stack, access_failed_tries="10000"
    ) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def tenants(pinflow: Deployment) -> Iterator[Tenants]:
    with tenancy(pinflow) as tenants:
        yield tenants


def test_invariant_10_every_endpoint_has_a_scenario_with_two_workspaces() -> None:
    assert set(SCENARIOS) == set(GUARDED)
    assert set(OPERATIONS) >= PUBLIC


def test_every_endpoint_has_a_scenario_with_a_key_for_one_account() -> None:
    assert set(PERMITTED) | set(OF_THE_WORKSPACE) == set(GUARDED)


def test_every_route_is_documented_or_known_to_tell_nothing() -> None:
    routes = {
        (method, route.path)
        for application in create_applications().values()
        for route in iter_route_contexts(application.routes)
        for method in route.methods or ()
    }
    assert routes <= set(OPERATIONS) | UNDOCUMENTED
    assert set(GUARDED) <= routes


def test_every_operation_that_is_not_public_wants_a_key() -> None:
    assert {
        operation for operation, described in OPERATIONS.items() if "security" not in described
    } == PUBLIC


@pytest.mark.parametrize("operation", SCENARIOS, ids=" ".join)
def test_invariant_10_what_is_anothers_is_what_does_not_exist(
    tenants: Tenants, operation: Operation
) -> None:
    SCENARIOS[operation](tenants)


@pytest.mark.parametrize("operation", PERMITTED, ids=" ".join)
def test_a_key_for_one_account_gets_at_no_other(tenants: Tenants, operation: Operation) -> None:
    PERMITTED[operation](replace(tenants, theirs=tenants.limited, strangers=tenants.limited))


def ask(client: httpx.Client, operation: Operation, **headers: str) -> httpx.Response:
    """A request of the right form with nothing good in it: whoever may ask gets past the key to
    another error, or a page.
    """
    method, path = operation
    return client.request(method, re.sub(r"\{\w+\}", str(uuid4()), path), headers=headers)


@pytest.mark.parametrize("operation", GUARDED, ids=" ".join)
def test_without_a_good_key_every_endpoint_is_401(
    pinflow: Deployment, operation: Operation
) -> None:
    wrong = new_api_key().plain
    with client_of(pinflow, None) as nobody:
        for headers in (
            {},
            {"X-API-Key": wrong},
            {"Authorization": f"Bearer {wrong}"},
            {"Authorization": "Basic YTpi"},
        ):
            answer = ask(nobody, operation, **headers)
            assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture(scope="module")
def narrow_keys(pinflow: Deployment, tenants: Tenants) -> dict[Scope, str]:
    """A key with one scope each."""
    keys = {scope: new_api_key() for scope in Scope}

    async def create(operator: OperatorRepository) -> None:
        for scope, key in keys.items():
            await operator.create_key(tenants.owner.id, key, name=scope, scopes=[scope])

    administer(pinflow.database_url, create)
    return {scope: key.plain for scope, key in keys.items()}


def scope_of(operation: Operation) -> Scope:
    """Reading, writing; and what can't be undone."""
    method, path = operation
    if method == "DELETE" or path.endswith("/bulk-delete"):
        return Scope.DESTRUCTIVE
    return Scope.READ if method == "GET" else Scope.WRITE


@pytest.mark.parametrize("operation", GUARDED, ids=" ".join)
def test_a_key_without_the_scope_is_403(
    pinflow: Deployment, narrow_keys: dict[Scope, str], operation: Operation
) -> None:
    needed = scope_of(operation)
    for scope, key in narrow_keys.items():
        with client_of(pinflow, key) as client:
            answer = ask(client, operation)
        if scope is needed:
            assert answer.status_code not in {401, 403}
        else:
            detail = answer.json()["detail"]
            assert (answer.status_code, detail["code"], detail["required_scope"]) == (
                403,
                "insufficient_scope",
                needed,
            )
