"""API keys over HTTP, with the access service's database role.

A key can create, change and revoke keys only within its own rights.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from pinbridge_sdk.models.api_keys import APIKeyCreateResponse, APIKeyResponse
from sqlalchemy import text

from deploy.administration import create_key
from services.access.app import create_app
from services.access.config import AccessSettings
from services.access.keys.repository import MAX_REVOKED, KeyRepository
from services.access.keys.service import KeyService
from shared.access import usage
from shared.access.keys import Scope, hash_api_key
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ApiError
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.support.infrastructure import with_role
from tests.support.services import running_app
from tests.support.waiting import eventually

MAX_KEYS = 6
CACHE_SECONDS = 1.0
WAITING = text(
    "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = AccessSettings(
        database_url=with_role(database_url, "pinflow_access"),
        access_cache_seconds=CACHE_SECONDS,
        max_api_keys=MAX_KEYS,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usage, "FLUSH_INTERVAL_SECONDS", 0.1)
        app = create_app(settings)
    async with running_app(app) as client:
        yield client


# Older keys were revoked later
REVOKED = text("""
    insert into access.api_keys (id, workspace_id, name, key_hash, prefix, scopes, account_ids,
        created_at, revoked_at)
    select gen_random_uuid(), :workspace, :name, decode(md5(random()::text), 'hex'), 'pf',
        array['read'], cast(:ids as uuid[]),
        now() - interval '60 days' + n * interval '1 second',
        now() - cast(:revoked as interval) - n * interval '1 second'
    from generate_series(1, :count) n
""")


class Key(NamedTuple):
    id: UUID
    plain: str

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.plain}


@pytest.fixture
def repository(database: Database) -> KeyRepository:
    return KeyRepository(database)


async def create_test_key(
    workspace: Workspace,
    *scopes: Scope,
    account_ids: Collection[UUID] | None = None,
    name: str = "test",
) -> Key:
    row, plain = await create_key(
        workspace.operator,
        workspace.id,
        name=name,
        scopes=scopes or list(Scope),
        account_ids=account_ids or (),
    )
    return Key(row["id"], plain)


async def create(http: httpx.AsyncClient, caller: Workspace | Key, **fields: Any) -> httpx.Response:
    return await http.post(
        "/v1/api-keys",
        content=json.dumps(fields).encode(),
        headers={**caller.headers, "Content-Type": "application/json"},
    )


async def change(
    http: httpx.AsyncClient, caller: Workspace | Key, key_id: object, **fields: Any
) -> httpx.Response:
    return await http.patch(f"/v1/api-keys/{key_id}", json=fields, headers=caller.headers)


async def revoke(
    http: httpx.AsyncClient, caller: Workspace | Key, key_id: object
) -> httpx.Response:
    return await http.delete(f"/v1/api-keys/{key_id}", headers=caller.headers)


async def list_keys(http: httpx.AsyncClient, caller: Workspace | Key) -> list[dict[str, Any]]:
    answer = await http.get("/v1/api-keys", headers=caller.headers)
    assert answer.status_code == 200
    keys: list[dict[str, Any]] = answer.json()
    return keys


def read_error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


async def test_a_new_key_works_at_once_and_is_shown_only_once(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    answer = await create(
        http,
        workspace,
        name="ci",
        scopes=["write", "read", "write"],
        pinterest_account_ids=[str(workspace.account_id)],
    )
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    created = APIKeyCreateResponse.model_validate(answer.json())
    assert (created.workspace_id, created.name, created.scopes) == (
        workspace.id,
        "ci",
        ["read", "write"],
    )
    assert created.pinterest_account_ids == [workspace.account_id]
    assert (
        await http.get("/v1/pinterest/accounts", headers={"X-API-Key": created.api_key})
    ).status_code == 200
    keys = await list_keys(http, workspace)
    assert [key["name"] for key in keys] == ["test", "ci"]  # the newest last
    shown = APIKeyResponse.model_validate(keys[-1])
    assert (shown.id, shown.scopes, shown.pinterest_account_ids) == (
        created.id,
        created.scopes,
        created.pinterest_account_ids,
    )
    assert (shown.source, shown.client_name, shown.authorized_by_email, shown.revoked_at) == (
        "manual",
        None,
        None,
        None,
    )
    assert created.api_key not in str(keys)
    assert hash_api_key(created.api_key).hex() not in str(keys)
    assert keys[-1]["prefix"] == created.api_key[: len(keys[-1]["prefix"])]


async def test_a_key_without_scopes_and_accounts_reads_and_writes_everywhere(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    created = (await create(http, workspace, name="ci", scopes=None)).json()
    assert (created["scopes"], created["pinterest_account_ids"]) == (["read", "write"], None)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": None},
        {"name": 1},
        {"name": ""},
        {"name": " \t "},
        {"name": "a\0b"},
        {"name": "\ud800"},
        {"name": "x" * 256},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["admin"]},
        {"name": "x", "scopes": "read"},
        {"name": "x", "pinterest_account_ids": []},
        {"name": "x", "pinterest_account_ids": ["board-1"]},
        {
            "name": "x",
            "account_ids": ["not the field's name"],
        },  # if it were ignored, the key would be for all accounts
    ],
    ids=str,
)
async def test_invalid_fields_of_a_new_key_are_422(
    http: httpx.AsyncClient, workspace: Workspace, fields: dict[str, Any]
) -> None:
    answer = await create(http, workspace, **fields)
    assert read_error(answer) == (422, "validation_error")
    assert answer.json()["detail"]["errors"]
    assert len(await list_keys(http, workspace)) == 1


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        (b"[]", "application/json", (422, "invalid_payload")),
        (b"{", "application/json", (422, "invalid_json")),
        (b"", "application/json", (422, "invalid_json")),
        (b"name=x", "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
        (b" " * 65_537, "application/json", (413, "payload_too_large")),
    ],
    ids=["array", "broken", "nothing", "form", "large"],
)
async def test_a_body_that_is_not_a_json_object_is_rejected(
    http: httpx.AsyncClient,
    workspace: Workspace,
    content: bytes,
    content_type: str,
    expected: tuple[int, str],
) -> None:
    headers = {**workspace.headers, "Content-Type": content_type}
    assert read_error(await http.post("/v1/api-keys", content=content, headers=headers)) == expected


async def test_a_name_of_255_characters_is_stored_as_sent(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    name = " " + "ü" * 254
    assert (await create(http, workspace, name=name)).json()["name"] == name


async def test_invariant_10_another_workspaces_account_is_handled_like_an_unknown_one(
    http: httpx.AsyncClient, workspace: Workspace, database: Database
) -> None:
    foreign, absent = (await make_workspace(database)).account_id, uuid4()
    for unknown in (foreign, absent):
        answer = await create(
            http,
            workspace,
            name="x",
            pinterest_account_ids=[str(workspace.account_id), str(unknown)],
        )
        assert read_error(answer) == (422, "account_not_found")
        assert answer.json()["detail"]["account_ids"] == [str(unknown)]
    assert len(await list_keys(http, workspace)) == 1


async def test_the_number_of_keys_is_limited_and_revoked_keys_do_not_count(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    answers = await asyncio.gather(
        *(create(http, workspace, name=str(number)) for number in range(2 * MAX_KEYS))
    )
    created = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(created) == MAX_KEYS - 1  # and the caller's own key
    refused = next(answer for answer in answers if answer.status_code != 201)
    assert read_error(refused) == (409, "too_many_api_keys")
    assert refused.json()["detail"]["limit"] == MAX_KEYS
    assert (await revoke(http, workspace, created[0])).status_code == 204
    assert (await create(http, workspace, name="another")).status_code == 201


async def test_a_key_cannot_grant_a_scope_or_account_that_it_lacks(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    own, other = workspace.account_id, await workspace.add_account()
    narrow = await create_test_key(workspace, Scope.READ, Scope.WRITE, account_ids=[own])
    assert read_error(
        await create(
            http, narrow, name="x", scopes=["destructive"], pinterest_account_ids=[str(own)]
        )
    ) == (
        403,
        "insufficient_scope",
    )
    for accounts in (
        {},
        {"pinterest_account_ids": None},
        {"pinterest_account_ids": [str(own), str(other)]},
    ):
        assert read_error(await create(http, narrow, name="x", **accounts)) == (
            403,
            "account_not_permitted",
        )
    unknown = await create(http, narrow, name="x", pinterest_account_ids=[str(uuid4())])
    assert read_error(unknown) == (
        403,
        "account_not_permitted",
    )  # the answer does not reveal whether the account exists
    assert (
        await create(http, narrow, name="x", pinterest_account_ids=[str(own)])
    ).status_code == 201


async def test_a_change_affects_only_the_fields_that_are_sent(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    key = await create_test_key(workspace, Scope.READ, account_ids=[workspace.account_id])
    for _ in range(2):  # a repetition has the same answer
        answer = await change(http, workspace, key.id, name="renamed")
        shown = APIKeyResponse.model_validate(answer.json())
        assert (shown.name, shown.scopes, shown.pinterest_account_ids) == (
            "renamed",
            ["read"],
            [workspace.account_id],
        )
    shown = APIKeyResponse.model_validate(
        (await change(http, workspace, key.id, scopes=["write", "read"], name=None)).json()
    )
    assert (shown.name, shown.scopes) == ("renamed", ["read", "write"])
    assert shown.pinterest_account_ids == [workspace.account_id]
    shown = APIKeyResponse.model_validate(
        (await change(http, workspace, key.id, pinterest_account_ids=None)).json()
    )
    assert (shown.name, shown.pinterest_account_ids) == ("renamed", None)
    assert (await list_keys(http, workspace))[-1] == (
        await change(http, workspace, key.id, name="renamed")
    ).json()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": None},
        {"scopes": None, "name": None},
        {"unknown": 1},
        {"name": ""},
        {"scopes": []},
        {"scopes": ["all"]},
        {"pinterest_account_ids": []},
    ],
    ids=str,
)
async def test_an_empty_or_invalid_change_is_422(
    http: httpx.AsyncClient, workspace: Workspace, fields: dict[str, Any]
) -> None:
    (before,) = await list_keys(http, workspace)
    assert read_error(await change(http, workspace, before["id"], **fields)) == (
        422,
        "validation_error",
    )
    (after,) = await list_keys(http, workspace)
    assert {**after, "last_used_at": None} == {**before, "last_used_at": None}


async def test_a_change_to_an_unknown_account_is_422(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    (key,) = await list_keys(http, workspace)
    assert read_error(
        await change(http, workspace, key["id"], pinterest_account_ids=[str(uuid4())])
    ) == (422, "account_not_found")


async def test_a_change_takes_effect_within_the_cache_time(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    other = await workspace.add_account()
    key = await create_test_key(workspace)
    boards = f"/v1/pinterest/boards?account_id={other}"
    assert (await http.get(boards, headers=key.headers)).status_code == 200
    assert (
        await change(http, workspace, key.id, pinterest_account_ids=[str(workspace.account_id)])
    ).status_code == 200

    async def is_restricted() -> bool:
        return (await http.get(boards, headers=key.headers)).status_code == 404

    await eventually(is_restricted, seconds=CACHE_SECONDS + 5)


async def test_a_key_cannot_change_a_key_with_more_rights_or_extend_its_own(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    wide = await create_test_key(workspace)
    plain = await create_test_key(workspace, Scope.READ, Scope.WRITE)
    assert read_error(await change(http, plain, wide.id, name="renamed")) == (
        403,
        "insufficient_scope",
    )
    assert read_error(await change(http, plain, plain.id, scopes=["destructive"])) == (
        403,
        "insufficient_scope",
    )
    listing = await create_test_key(workspace, Scope.WRITE, account_ids=[workspace.account_id])
    assert read_error(await change(http, listing, listing.id, pinterest_account_ids=None)) == (
        403,
        "account_not_permitted",
    )
    assert (await change(http, plain, plain.id, name="myself", scopes=["read"])).status_code == 200


async def test_a_key_with_a_list_of_accounts_sees_and_changes_only_keys_within_it(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    own, other = workspace.account_id, await workspace.add_account()
    mine = await create_test_key(workspace, account_ids=[own], name="mine")
    within = await create_test_key(workspace, Scope.READ, account_ids=[own], name="within")
    outside = [
        await create_test_key(workspace, account_ids=ids, name="outside")
        for ids in (None, [other], [own, other])
    ]
    assert [key["name"] for key in await list_keys(http, mine)] == ["mine", "within"]
    for key_id in (*(key.id for key in outside), uuid4(), "nothing"):
        assert read_error(await change(http, mine, key_id, name="x")) == (404, "not_found")
        assert read_error(await revoke(http, mine, key_id)) == (404, "not_found")
    assert (await revoke(http, mine, within.id)).status_code == 204


async def test_invariant_10_another_workspaces_keys_do_not_exist(
    http: httpx.AsyncClient, workspace: Workspace, database: Database
) -> None:
    owner = await make_workspace(database)
    key = await create_test_key(owner)
    assert [key["name"] for key in await list_keys(http, workspace)] == ["test"]
    for attempt in (change(http, workspace, key.id, name="x"), revoke(http, workspace, key.id)):
        assert read_error(await attempt) == (404, "not_found")
    assert [(key["name"], key["revoked_at"]) for key in await list_keys(http, owner)] == [
        ("test", None),
        ("test", None),
    ]


async def test_a_revoked_key_stops_working_within_the_cache_time_and_stays_in_the_list(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    key = await create_test_key(workspace)
    assert (await http.get("/v1/pinterest/accounts", headers=key.headers)).status_code == 200
    assert (await revoke(http, workspace, key.id)).status_code == 204

    async def is_rejected() -> bool:
        return (await http.get("/v1/pinterest/accounts", headers=key.headers)).status_code == 401

    await eventually(is_rejected, seconds=CACHE_SECONDS + 5)
    revoked_at = (await list_keys(http, workspace))[-1]["revoked_at"]
    assert revoked_at
    assert (await revoke(http, workspace, key.id)).status_code == 204  # again
    assert (await list_keys(http, workspace))[-1]["revoked_at"] == revoked_at
    assert read_error(await change(http, workspace, key.id, name="x")) == (409, "api_key_revoked")


async def test_the_latest_revoked_keys_are_listed_for_thirty_days(
    http: httpx.AsyncClient, workspace: Workspace, database: Database
) -> None:
    """A loop that creates and revokes keys must not make the list long."""
    mine = await create_test_key(workspace, account_ids=[workspace.account_id], name="mine")
    foreign = await workspace.add_account()
    async with database.transaction() as connection:
        for name, revoked, account_id in (
            ("lately", "1 day", workspace.account_id),
            ("foreign", "1 hour", foreign),
            ("long ago", "31 days", None),
        ):
            values = {
                "name": name,
                "revoked": revoked,
                "ids": account_id and [account_id],
                "workspace": workspace.id,
                "count": 2 * MAX_REVOKED,
            }
            await connection.execute(REVOKED, values)
    names = [key["name"] for key in await list_keys(http, workspace)]
    assert Counter(names) == {"foreign": MAX_REVOKED, "test": 1, "mine": 1}
    assert names[-2:] == ["test", "mine"]
    assert Counter(key["name"] for key in await list_keys(http, mine)) == {
        "lately": MAX_REVOKED,
        "mine": 1,
    }
    times = [key["revoked_at"] for key in await list_keys(http, mine)][:-1]
    assert times == sorted(
        times, reverse=True
    )  # newest first: the reverse of the order of creation
    assert datetime.fromisoformat(times[0]) - datetime.fromisoformat(times[-1]) == (
        MAX_REVOKED - 1
    ) * timedelta(seconds=1)


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
async def test_revoking_requires_the_destructive_scope(
    http: httpx.AsyncClient, workspace: Workspace, scope: Scope
) -> None:
    key = await create_test_key(workspace, scope)
    assert read_error(await revoke(http, key, key.id)) == (403, "insufficient_scope")


@pytest.mark.parametrize("scope", [Scope.READ, Scope.DESTRUCTIVE])
async def test_creating_and_changing_require_the_write_scope(
    http: httpx.AsyncClient, workspace: Workspace, scope: Scope
) -> None:
    key = await create_test_key(workspace, scope)
    for attempt in (
        create(http, key, name="x", scopes=[scope]),
        change(http, key, key.id, name="x"),
    ):
        assert read_error(await attempt) == (403, "insufficient_scope")


async def test_a_key_that_was_just_revoked_or_restricted_grants_no_rights(
    database: Database, workspace: Workspace, repository: KeyRepository
) -> None:
    """Services may accept the cached key for some seconds, but a key that it creates would last."""
    access = AccessRepository(database)
    keys = KeyService(repository, MAX_KEYS)
    key = await create_test_key(workspace)
    cached = await access.find_principal(hash_api_key(key.plain))
    assert cached is not None
    async with repository.lock(workspace.id, key.id) as locked:
        await locked.update(key.id, {"scopes": ["read"]})
    for attempt in (
        keys.create(cached, name="new", scopes=[Scope.READ], account_ids=None),
        keys.change(cached, key.id, {"scopes": ["read", "write"]}),
    ):
        with pytest.raises(ApiError) as restricted:
            await attempt
        assert restricted.value.code == "insufficient_scope"
    await workspace.operator.revoke_key(key.id)
    with pytest.raises(ApiError) as revoked:
        await keys.create(cached, name="new", scopes=[Scope.READ], account_ids=None)
    assert revoked.value.status == 401
    assert [row["name"] for row in await workspace.operator.list_keys(workspace.id)] == [
        "test",
        "test",
    ]


@pytest.mark.parametrize("attempt", ["create", "change"])
async def test_a_key_that_is_revoked_during_its_request_creates_or_changes_no_key(
    database: Database, workspace: Workspace, repository: KeyRepository, attempt: str
) -> None:
    access = AccessRepository(database)
    keys = KeyService(repository, MAX_KEYS)
    key, other = (
        await create_test_key(workspace),
        await create_test_key(workspace, Scope.READ),
    )
    caller = await access.find_principal(hash_api_key(key.plain))
    assert caller is not None
    async with database.transaction() as connection:
        await connection.execute(
            text("update access.api_keys set revoked_at = now() where id = :id"), {"id": key.id}
        )
        request = asyncio.create_task(
            keys.create(caller, name="new", scopes=[Scope.READ], account_ids=None)
            if attempt == "create"
            else keys.change(caller, other.id, {"scopes": ["read", "write"]})
        )

        async def is_waiting() -> bool:
            return request.done() or bool(await database.fetch_all(WAITING))

        await eventually(is_waiting)
    with pytest.raises(ApiError) as revoked:
        await request
    assert revoked.value.status == 401
    assert [
        (row["name"], row["scopes"]) for row in await workspace.operator.list_keys(workspace.id)
    ][2:] == [("test", ["read"])]


async def test_keys_that_change_each_other_concurrently_do_not_deadlock(
    database: Database, workspace: Workspace, repository: KeyRepository
) -> None:
    keys = KeyService(repository, MAX_KEYS)
    created = [await create_test_key(workspace) for _ in range(2)]
    first, second = (Principal(workspace.id, key.id, frozenset(Scope)) for key in created)
    changes = [(first, second), (second, first)] * 10
    await asyncio.gather(
        *(keys.change(caller, target.key_id, {"name": "x"}) for caller, target in changes)
    )
    assert [row["name"] for row in (await workspace.operator.list_keys(workspace.id))[1:]] == [
        "x",
        "x",
    ]


async def test_the_list_has_the_time_of_last_use(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    before = datetime.now(UTC)
    await create_test_key(workspace, name="idle")

    async def used() -> dict[str, Any]:
        return {key["name"]: key["last_used_at"] for key in await list_keys(http, workspace)}

    async def is_reported() -> bool:
        return (await used())["test"] is not None

    await eventually(is_reported)
    times = await used()
    assert times["idle"] is None
    assert (
        before - timedelta(minutes=1)
        < datetime.fromisoformat(times["test"])
        < datetime.now(UTC) + timedelta(minutes=1)
    )


async def test_many_processes_write_a_use_once_a_minute(
    workspace: Workspace, repository: KeyRepository
) -> None:
    async def last_used() -> datetime | None:
        (key,) = await workspace.operator.list_keys(workspace.id)
        at: datetime | None = key["last_used_at"]
        return at

    (key,) = await workspace.operator.list_keys(workspace.id)
    await asyncio.gather(*(repository.mark_used([key["id"], uuid4()]) for _ in range(8)))
    first = await last_used()
    assert first is not None
    await repository.mark_used([key["id"]])
    assert await last_used() == first


async def test_another_service_reports_used_keys(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    key = await create_test_key(workspace, name="elsewhere")
    answer = await http.post(
        "/internal/key-usage", json={"key_ids": [str(key.id), str(uuid4())]}
    )  # an unknown id is ignored
    assert (answer.status_code, answer.content) == (204, b"")
    used = {key["name"]: key["last_used_at"] for key in await list_keys(http, workspace)}
    assert used["elsewhere"] is not None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key_ids": []},
        {"key_ids": ["one"]},
        {"key_ids": [str(uuid4())] * (usage.MAX_REPORTED_KEYS + 1)},
        [],
    ],
    ids=["nothing", "none", "no id", "too many", "array"],
)
async def test_an_invalid_report_is_422(http: httpx.AsyncClient, body: Any) -> None:
    assert (await http.post("/internal/key-usage", json=body)).status_code == 422
