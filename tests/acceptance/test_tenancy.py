"""Tests invariant 10, keys, scopes and account lists on every endpoint.

An endpoint without a check fails the test that lists the routes.
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
from services.status.reference_page import SCRIPT_NAME
from services.status.unsupported import AREAS
from shared.access.keys import Scope, new_api_key
from tests.acceptance.conftest import administer
from tests.acceptance.tenancy.allow_lists import NOT_LIMITED_BY_ACCOUNT, PERMITTED
from tests.acceptance.tenancy.tenants import Tenants, open_client, tenancy
from tests.acceptance.tenancy.workspaces import SCENARIOS, Operation
from tests.support.applications import shared_applications, shared_document
from tests.support.deployment import Deployment

DOCUMENT = shared_document()
OPERATIONS: dict[Operation, dict[str, Any]] = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
CALLBACK: Operation = ("GET", "/v1/pinterest/oauth/callback")
"""Pinterest sends a user's browser here. The signed state names the attempt
(tests/integration/access/oauth/test_callbacks.py)."""
PUBLIC: set[Operation] = {("GET", "/"), ("GET", "/healthz"), ("GET", "/readyz"), CALLBACK}
"""Operations without a key. They return no workspace's data."""
UNSUPPORTED = {
    (method, path)
    for area in AREAS
    for method, path in (operation.split(" ") for operation in area.operations)
}
"""Operations of PinBridge that always answer 501."""
UNDOCUMENTED = (
    PUBLIC
    | UNSUPPORTED
    | {
        ("GET", path)
        for path in (
            "/metrics",
            "/internal/readyz",
            "/internal/imports/{job_id}",
            "/docs",
            f"/docs/{SCRIPT_NAME}",
        )
    }
    | {("POST", "/internal/key-usage"), ("POST", "/internal/imports")}
    | {
        ("POST", f"/internal/pinterest/{name}")
        for name in ("accounts", "tokens", "tokens/refresh", "health", "grants", "rate-meter")
    }
    | {
        ("POST", f"/internal/imports/{name}")
        for name in ("check", "cancel", "undo", "undos", "row")
    }
)
"""Routes that the OpenAPI document may lack."""
GUARDED = sorted(set(OPERATIONS) - PUBLIC)


@pytest.fixture(scope="module")
def pinflow(connected: Deployment) -> Deployment:
    """The deployment with a high limit of wrong keys, because these tests send many.

    The mode is `simulated`: with `off` no attempt to connect an account could start.
    """
    return connected


@pytest.fixture(scope="module")
def tenants(pinflow: Deployment) -> Iterator[Tenants]:
    with tenancy(pinflow) as tenants:
        yield tenants


def test_invariant_10_every_endpoint_has_a_scenario_with_two_workspaces() -> None:
    assert set(SCENARIOS) == set(GUARDED)
    assert set(OPERATIONS) >= PUBLIC


def test_every_endpoint_has_a_scenario_with_a_key_for_one_account() -> None:
    assert set(PERMITTED) | set(NOT_LIMITED_BY_ACCOUNT) == set(GUARDED)


def test_every_route_is_documented_or_listed_as_undocumented() -> None:
    routes = {
        (method, route.path)
        for application in shared_applications().values()
        for route in iter_route_contexts(application.routes)
        for method in route.methods or ()
    }
    assert routes <= set(OPERATIONS) | UNDOCUMENTED
    assert set(GUARDED) <= routes


def test_every_operation_that_is_not_public_requires_a_key() -> None:
    assert {
        operation for operation, described in OPERATIONS.items() if "security" not in described
    } == PUBLIC


@pytest.mark.parametrize("operation", SCENARIOS, ids=" ".join)
def test_invariant_10_resources_of_another_workspace_do_not_exist(
    tenants: Tenants, operation: Operation
) -> None:
    SCENARIOS[operation](tenants)


@pytest.mark.parametrize("operation", PERMITTED, ids=" ".join)
def test_a_key_for_one_account_reaches_no_other(tenants: Tenants, operation: Operation) -> None:
    PERMITTED[operation](replace(tenants, theirs=tenants.limited, strangers=tenants.limited))


def send(client: httpx.Client, operation: Operation, **headers: str) -> httpx.Response:
    """Sends a request with unknown ids and no body.

    With a sufficient key the answer is another error or a page, but not 401 or 403.
    """
    method, path = operation
    return client.request(method, re.sub(r"\{\w+\}", str(uuid4()), path), headers=headers)


@pytest.mark.parametrize("operation", GUARDED, ids=" ".join)
def test_without_a_valid_key_every_endpoint_is_401(
    pinflow: Deployment, operation: Operation
) -> None:
    wrong = new_api_key().plain
    with open_client(pinflow, None) as nobody:
        for headers in (
            {},
            {"X-API-Key": wrong},
            {"Authorization": f"Bearer {wrong}"},
            {"Authorization": "Basic YTpi"},
        ):
            answer = send(nobody, operation, **headers)
            assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture(scope="module")
def narrow_keys(pinflow: Deployment, tenants: Tenants) -> dict[Scope, str]:
    """Keys with one scope each, by scope."""
    keys = {scope: new_api_key() for scope in Scope}

    async def create(operator: OperatorRepository) -> None:
        for scope, key in keys.items():
            await operator.create_key(tenants.owner.id, key, name=scope, scopes=[scope])

    administer(pinflow.database_url, create)
    return {scope: key.plain for scope, key in keys.items()}


def required_scope(operation: Operation) -> Scope:
    """Returns the scope that the operation requires."""
    method, path = operation
    if method == "DELETE" or path.endswith(("/bulk-delete", "/undo")):
        return Scope.DESTRUCTIVE
    is_start = path == "/v1/pinterest/oauth/start"  # PinBridge's clients start with GET
    return Scope.READ if method == "GET" and not is_start else Scope.WRITE


@pytest.mark.parametrize("operation", GUARDED, ids=" ".join)
def test_a_key_without_the_scope_is_403(
    pinflow: Deployment, narrow_keys: dict[Scope, str], operation: Operation
) -> None:
    needed = required_scope(operation)
    for scope, key in narrow_keys.items():
        with open_client(pinflow, key) as client:
            answer = send(client, operation)
        if scope is needed:
            assert answer.status_code not in {401, 403}
        else:
            detail = answer.json()["detail"]
            assert (answer.status_code, detail["code"], detail["required_scope"]) == (
                403,
                "insufficient_scope",
                needed,
            )
