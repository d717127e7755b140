"""HEAD is answered as GET is, without the body, on every address that takes GET."""

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
PER_REQUEST = {"x-request-id"}
METRICS = "/metrics"
"""Its figures change with every request."""


class Address(NamedTuple):
    service: str
    path: str
    methods: frozenset[str]

    @property
    def url(self) -> str:
        return re.sub(r"\{[^}]*\}", str(uuid4()), self.path)

    def __str__(self) -> str:
        return f"{self.service}: {self.path}"


def addresses() -> Iterator[Address]:
    for service, app in APPLICATIONS.items():
        methods: dict[str, set[str]] = {}
        for route in iter_route_contexts(app.router.routes):
            methods.setdefault(route.path or "", set()).update(route.methods or ())
        for path, known in methods.items():
            yield Address(service, path, frozenset(known))


ADDRESSES = list(addresses())
READABLE = [address for address in ADDRESSES if "GET" in address.methods]
WITH_KEY = [address for address in READABLE if address.path.startswith("/v1/")]
OTHERS = [address for address in ADDRESSES if "GET" not in address.methods]


def test_every_service_has_addresses_of_every_kind() -> None:
    paths = {address.path for address in READABLE}
    assert {"/", "/healthz", "/readyz", METRICS, "/v1/pins", "/v1/webhooks"} <= paths
    assert {address.service for address in READABLE} == set(APPLICATIONS)
    assert OTHERS


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://pinflow.test", timeout=20
    )


async def same_as_get(address: Address) -> httpx.Response:
    async with client(APPLICATIONS[address.service]) as asking:
        url = address.url
        got, head = await asking.get(url), await asking.head(url)
    assert (head.status_code, head.content) == (got.status_code, b"")
    differing = PER_REQUEST | ({"content-length"} if address.path == METRICS else set())
    assert kept(head, differing) == kept(got, differing)
    assert "content-length" in head.headers
    return head


def kept(answer: httpx.Response, differing: set[str]) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in differing}


@pytest.mark.parametrize("address", READABLE, ids=str)
async def test_head_without_a_key_is_answered_as_get(address: Address) -> None:
    assert (await same_as_get(address)).status_code != 405


@pytest.mark.parametrize("address", WITH_KEY, ids=str)
async def test_head_requires_the_same_scope_as_get(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def writer() -> Principal:
        return Principal(uuid4(), uuid4(), frozenset({"write"}))

    app = APPLICATIONS[address.service]
    monkeypatch.setitem(app.dependency_overrides, dependencies._principal, writer)
    assert (await same_as_get(address)).status_code in {403, 422, 501}


@pytest.mark.parametrize("address", OTHERS, ids=str)
async def test_head_is_405_where_get_is_405(address: Address) -> None:
    async with client(APPLICATIONS[address.service]) as asking:
        head = await asking.head(address.url)
    # Of /v1/pins/batch and the like, another address would fit HEAD as it fits GET
    assert (head.status_code, head.content) == (405, b"") or "{" not in address.path
    if head.status_code == 405:
        assert "HEAD" not in head.headers["allow"]


@pytest.mark.parametrize("address", READABLE, ids=str)
async def test_the_allow_header_names_head_beside_get(address: Address) -> None:
    async with client(APPLICATIONS[address.service]) as asking:
        refused = await asking.request("TRACE", address.url)
    assert refused.status_code == 405
    assert {"GET", "HEAD"} <= set(refused.headers["allow"].split(", "))
