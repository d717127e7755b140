"""Query parameters that an endpoint does not have, or takes only once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from pydantic import BaseModel

from deploy.generate.applications import create_application
from deploy.services import SERVICES
from shared.access import dependencies
from shared.access.dependencies import ReadAccess, WriteAccess
from shared.access.keys import Scope
from shared.access.model import Principal
from shared.http.app import create_api
from shared.http.health import Health


class Filters(BaseModel):
    limit: int = 50
    status: str | None = None
    tags: list[str] | None = None


async def read_account(account_id: str | None = None) -> str | None:
    return account_id


router = APIRouter(prefix="/v1")


@router.get("/things", dependencies=[Depends(read_account)])
async def list_things(_: ReadAccess, __: Annotated[Filters, Query()]) -> list[str]:
    return []


@router.get("/things/{thing}")
async def get_thing(thing: str, _: ReadAccess) -> str:
    return thing


@router.post("/things")
async def create_thing(_: WriteAccess, *, strict: bool = False) -> bool:
    return strict


@router.delete("/things/{thing}")
async def delete_thing(thing: str, _: WriteAccess) -> None: ...


@router.get("/callback")
async def receive_callback(code: str) -> list[str]:
    return [code]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


async def principal() -> Principal:
    return Principal(uuid4(), uuid4(), frozenset(Scope))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    api = create_api("testing", summary="", lifespan=lifespan, health=Health(), concurrency=10)
    api.include_router(router)
    api.dependency_overrides[dependencies._principal] = principal
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api), base_url="http://pinflow.test"
    ) as client:
        yield client


async def refuse(client: httpx.AsyncClient, method: str, path: str) -> dict[str, Any]:
    answer = await client.request(method, path)
    assert answer.status_code == 422
    detail: dict[str, Any] = answer.json()["detail"]
    return detail


async def test_a_misspelled_filter_of_a_list_is_refused_with_a_suggestion(
    client: httpx.AsyncClient,
) -> None:
    detail = await refuse(client, "GET", "/v1/things?Limit=5&x=1&account_id=1")
    assert detail == {
        "code": "unknown_parameter",
        "message": "Limit: is not a query parameter of this request (did you mean limit?); x: is "
        "not a query parameter of this request. Known ones: account_id, limit, status, tags.",
        "help": "/docs/errors#unknown_parameter",
        "errors": [
            {
                "field": "Limit",
                "code": "unknown_parameter",
                "message": "is not a query parameter of this request (did you mean limit?)",
            },
            {
                "field": "x",
                "code": "unknown_parameter",
                "message": "is not a query parameter of this request",
            },
        ],
        "parameters": ["account_id", "limit", "status", "tags"],
    }


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("POST", "/v1/things?stric=true", ["strict"]),
        ("DELETE", "/v1/things/7?account_id=8", []),
        ("HEAD", "/v1/things?limt=5", None),
    ],
)
async def test_requests_that_write_and_head_of_a_list_are_refused_too(
    client: httpx.AsyncClient, method: str, path: str, known: list[str] | None
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 422
    if known is not None:
        assert answer.json()["detail"]["parameters"] == known


async def test_a_parameter_that_is_sent_twice_is_refused(client: httpx.AsyncClient) -> None:
    detail = await refuse(client, "GET", "/v1/things?limit=1&limit=2")
    assert (detail["code"], detail["message"]) == (
        "invalid_parameter",
        "limit: must be sent once; it is there 2 times.",
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/things?limit=1&status=a&tags=a&tags=b&account_id=1",
        "/v1/things/7?utm_source=mail",
        "/v1/things/7?",
        "/v1/callback?code=1&scope=a&scope=b",
    ],
)
async def test_other_requests_are_answered(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_a_hostile_name_is_cut_and_only_some_names_are_listed(
    client: httpx.AsyncClient,
) -> None:
    names = "&".join(f"{'n' * 500}{number}=1" for number in range(100))
    detail = await refuse(client, "GET", f"/v1/things?%00=1&{names}")
    assert len(detail["errors"]) == 20
    assert detail["errors"][0]["field"] == "\ufffd"
    assert {len(fault["field"]) for fault in detail["errors"][1:]} == {64}


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_a_wrong_key_is_named_before_a_wrong_parameter(service: str) -> None:
    app = create_application(service)
    paths = {"ingest": "/v1/pins/imports/json", "status": "/v1/pins/imports"}
    path = paths.get(service) or {"access": "/v1/api-keys", "publisher": "/v1/pins"}.get(
        service, "/v1/webhooks"
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://pinflow.test"
    ) as client:
        method = "POST" if service == "ingest" else "GET"
        assert (await client.request(method, f"{path}?x=1")).status_code == 401
