"""HEAD is answered like GET, without the body, on every address that supports GET."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from deploy.generate.applications import create_applications
from shared.access import dependencies
from shared.access.model import Principal

APPLICATIONS = {app.title: app for app in create_applications().values()}
CHANGING_HEADERS = {"x-request-id"}
METRICS_PATH = "/metrics"
"""The path whose response changes with every request."""


class Address(NamedTuple):
    service: str
    path: str
    methods: frozenset[str]

    @property
    def url(self) -> str:
        return re.sub(r"\{[^}]*\}", str(uuid4()), self.path)

    def __str__(self) -> str:
        return f"{self.service}: {self.path}"


def list_addresses() -> Iterator[Address]:
    for service, app in APPLICATIONS.items():
        methods: dict[str, set[str]] = {}
        for route in iter_route_contexts(app.router.routes):
            methods.setdefault(route.path or "", set()).update(route.methods or ())
        for path, allowed in methods.items():
            yield Address(service, path, frozenset(allowed))


ADDRESSES = list(list_addresses())
READABLE = [address for address in ADDRESSES if "GET" in address.methods]
WITH_KEY = [address for address in READABLE if address.path.startswith("/v1/")]
CONNECTING = {"/v1/pinterest/oauth/start", "/v1/pinterest/oauth/callback"}
"""Paths that connect an account by GET. The mode is off, so they answer 409 `pinterest_off`."""
WITHOUT_GET = [address for address in ADDRESSES if "GET" not in address.methods]


def test_every_service_has_addresses_of_every_kind() -> None:
    paths = {address.path for address in READABLE}
    assert {"/", "/healthz", "/readyz", METRICS_PATH, "/v1/pins", "/v1/webhooks"} <= paths
    assert {address.service for address in READABLE} == set(APPLICATIONS)
    assert WITHOUT_GET


def new_client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://pinflow.test", timeout=20
    )


async def require_same_as_get(address: Address) -> httpx.Response:
    async with new_client(APPLICATIONS[address.service]) as http:
        url = address.url
        get, head = await http.get(url), await http.head(url)
    assert (head.status_code, head.content) == (get.status_code, b"")
    differing = CHANGING_HEADERS | ({"content-length"} if address.path == METRICS_PATH else set())
    assert select_headers(head, differing) == select_headers(get, differing)
    assert "content-length" in head.headers
    return head


def select_headers(answer: httpx.Response, differing: set[str]) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in differing}


@pytest.mark.parametrize("address", READABLE, ids=str)
async def test_head_without_a_key_is_answered_as_get(address: Address) -> None:
    assert (await require_same_as_get(address)).status_code != 405


@pytest.mark.parametrize("address", WITH_KEY, ids=str)
async def test_head_requires_the_same_scope_as_get(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def writer() -> Principal:
        return Principal(uuid4(), uuid4(), frozenset({"write"}))

    app = APPLICATIONS[address.service]
    monkeypatch.setitem(app.dependency_overrides, dependencies._principal, writer)
    expected = {409} if address.path in CONNECTING else {403, 422, 501}
    assert (await require_same_as_get(address)).status_code in expected


@pytest.mark.parametrize("address", WITHOUT_GET, ids=str)
async def test_head_is_405_where_get_is_405(address: Address) -> None:
    async with new_client(APPLICATIONS[address.service]) as http:
        head = await http.head(address.url)
    # /v1/pins/batch, for example, also matches the GET route /v1/pins/{pin_id}
    assert (head.status_code, head.content) == (405, b"") or "{" not in address.path
    if head.status_code == 405:
        assert "HEAD" not in head.headers["allow"]


@pytest.mark.parametrize("address", READABLE, ids=str)
async def test_the_allow_header_names_head_beside_get(address: Address) -> None:
    async with new_client(APPLICATIONS[address.service]) as http:
        refused = await http.request("TRACE", address.url)
    assert refused.status_code == 405
    assert {"GET", "HEAD"} <= set(refused.headers["allow"].split(", "))
