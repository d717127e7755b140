"""Lists and the backlog show pins that are on their way to Pinterest."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from services.publisher.backlog.repository import BacklogRepository
from shared.postgres.database import Database
from tests.integration.conftest import make_workspace
from tests.integration.publisher.conftest import Client, find_pin_id, in_future, serving
from tests.integration.publisher.connected import INSERT_ATTEMPT, ConnectedClient
from tests.integration.publisher.imports import Import
from tests.support.waiting import eventually

_BLOCKED = text(
    "select from pg_locks where relation = 'publisher.delivery_attempts'::regclass and not granted"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database_url, pinterest_mode="simulated") as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def connected(client: Client, database: Database) -> ConnectedClient:
    return await ConnectedClient.connect(client, database)


async def list_ids(client: Client, path: str) -> list[str]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()]


async def list_statuses(client: Client, path: str) -> list[str]:
    return [item["status"] for item in (await client.get(path)).json()]


async def create_one_of_each(connected: ConnectedClient) -> dict[str, str]:
    """Creates a pin in each state, the earliest first. Returns their ids."""
    pins = {
        name: await connected.queue(title=name)
        for name in ("published", "failed", "confirming", "publishing", "queued", "late")
    }
    await connected.set_published(pins["published"], f"at-{pins['published']}")
    await connected.fail(pins["failed"])
    for state in ("confirming", "publishing"):
        await connected.set_state(pins[state], state)
    await connected.client.execute(
        "update publisher.pins set deliver_after = now() + interval '1 hour', "
        "deferral_code = 'media_unreachable' where pin_id = :id",
        id=pins["late"],
    )
    return pins


async def test_a_list_shows_pins_in_every_live_state(
    client: Client, connected: ConnectedClient
) -> None:
    pins = await create_one_of_each(connected)
    assert await list_ids(client, "/v1/pins") == list(reversed(pins.values()))
    for sort in ("created_at_asc", "published_at_desc", "title_asc", "status_desc"):
        found = await list_ids(client, f"/v1/pins?sort={sort}&limit=3")
        page = await client.get(f"/v1/pins?sort={sort}&limit=3&offset=3")
        assert {*found, *(pin["id"] for pin in page.json())} == {*pins.values()}, sort
        assert page.headers["X-Total-Count"] == "6"


@pytest.mark.parametrize(
    ("status", "names"),
    [
        ("queued", ["queued"]),
        ("deferred", ["late"]),
        ("publishing", ["publishing", "confirming"]),
        ("published", ["published"]),
        ("failed", ["failed"]),
    ],
)
async def test_a_list_is_filtered_by_the_shown_status(
    client: Client, connected: ConnectedClient, status: str, names: list[str]
) -> None:
    pins = await create_one_of_each(connected)
    found = await list_ids(client, f"/v1/pins?status={status}")
    assert found == [pins[name] for name in names]
    assert set(await list_statuses(client, f"/v1/pins?status={status}")) == {status}


async def test_a_pause_of_the_account_defers_its_pins_in_lists(
    client: Client, connected: ConnectedClient
) -> None:
    pins = await create_one_of_each(connected)
    await connected.pause()
    found = await list_ids(client, "/v1/pins?status=deferred&sort=created_at_asc")
    assert found == [pins["queued"], pins["late"]]
    assert await list_ids(client, "/v1/pins?status=queued") == []
    statuses = await list_statuses(client, "/v1/pins?sort=status_asc")
    assert statuses == sorted(statuses)
    assert statuses.count("deferred") == 2


async def test_schedules_are_listed_by_the_shown_status(
    client: Client, connected: ConnectedClient
) -> None:
    states = ("scheduled", "queued", "publishing", "confirming", "published")
    schedules = {state: await client.create_schedule() for state in states}
    for state, schedule in schedules.items():
        if state == "published":
            await connected.set_published(find_pin_id(schedule), f"at-{schedule['id']}")
        elif state != "scheduled":
            await connected.set_state(find_pin_id(schedule), state)
    shown = {
        "scheduled": ["scheduled"],
        "queued": ["queued"],
        "running": ["publishing", "confirming"],
        "deferred": [],
    }
    for status, names in shown.items():
        found = await list_ids(client, f"/v1/schedules?status={status}")
        assert set(found) == {schedules[name]["id"] for name in names}, status
    statuses = await list_statuses(client, "/v1/schedules?sort=status_desc")
    assert statuses == sorted(statuses, reverse=True)
    assert len(await list_ids(client, "/v1/schedules")) == len(states)
    await connected.pause()
    (deferred,) = await list_ids(client, "/v1/schedules?status=deferred")
    assert deferred == schedules["queued"]["id"]


async def test_pins_of_one_import_are_listed_in_every_live_state(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    job = Import(client, database, {}, {}, {"run_at": in_future()})
    first, second, third = await job.settle()
    await connected.set_state(str(second.pin_id), "publishing")
    await connected.queue()  # of no import
    path = f"job_id={job.job_id}"
    assert len(await list_ids(client, f"/v1/pins?{path}")) == 2
    counted = await client.get(f"/v1/pins?{path}&status=queued&limit=1")
    assert counted.headers["x-total-count"] == "1"
    assert await list_ids(client, f"/v1/pins?{path}&status=queued") == [str(first.pin_id)]
    assert await list_ids(client, f"/v1/pins?{path}&status=publishing") == [str(second.pin_id)]
    assert await list_ids(client, f"/v1/schedules?{path}") == [str(third.schedule_id)]


async def test_removed_pins_are_found(client: Client, connected: ConnectedClient) -> None:
    removed, kept = await connected.publish(), await connected.publish()
    await client.execute(
        "update publisher.pins set removed_at = now() where pin_id = :id", id=removed
    )
    (pin,) = (await client.get("/v1/pins?removed=true")).json()
    assert (pin["id"], pin["status"]) == (removed, "published")
    assert pin["removed_from_pinterest_at"] is not None
    assert await list_ids(client, "/v1/pins?removed=false") == [kept]
    assert await list_ids(client, "/v1/pins?removed=true&status=failed") == []


# Backlog


async def read_backlog(client: Client) -> dict[str, Any]:
    answer = await client.get("/v1/deliveries")
    assert answer.status_code == 200, answer.text
    (backlog,) = answer.json()
    found: dict[str, Any] = backlog
    return found


async def test_the_backlog_counts_pins_and_estimates_its_end(
    client: Client, connected: ConnectedClient
) -> None:
    assert await read_backlog(client) == {
        "account_id": str(connected.account_id),
        "queued_count": 0,
        "publishing_count": 0,
        "oldest_queued_at": None,
        "pause": None,
        "estimated_end": None,
    }
    pins = [await connected.queue() for _ in range(3)]
    await connected.set_state(pins[0], "publishing")
    await connected.attempt(pins[0])
    backlog = await read_backlog(client)
    oldest = (await client.get(f"/v1/pins/{pins[1]}")).json()["created_at"]
    assert (backlog["queued_count"], backlog["publishing_count"]) == (2, 1)
    assert backlog["oldest_queued_at"] == oldest
    start = datetime.fromisoformat(oldest)
    end = datetime.fromisoformat(backlog["estimated_end"])
    assert timedelta(seconds=4) < end - start < timedelta(seconds=60)


async def test_a_pin_that_moves_while_the_backlog_is_read_counts_once(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    pin_id = await connected.queue()

    async def is_blocked() -> bool:
        return bool(await database.fetch_all(_BLOCKED))

    async with database.transaction() as moving:
        await moving.execute(text("lock table publisher.delivery_attempts"))
        reading = asyncio.create_task(read_backlog(client))
        await eventually(is_blocked)
        await moving.execute(
            text("update publisher.pins set state = 'publishing' where pin_id = :id"),
            {"id": pin_id},
        )
        await moving.execute(
            text(INSERT_ATTEMPT), connected.build_attempt(pin_id, number=1, seconds_ago=0)
        )
    backlog = await reading
    assert backlog["queued_count"] + backlog["publishing_count"] == 1


async def test_the_backlog_learns_the_speed_of_the_last_attempts(
    client: Client, connected: ConnectedClient
) -> None:
    pins = [await connected.queue() for _ in range(10)]
    for number in range(1, 8):
        await connected.attempt(pins[0], number, seconds_ago=100 - 10 * number)
    first = datetime.fromisoformat((await client.get(f"/v1/pins/{pins[0]}")).json()["created_at"])
    end = datetime.fromisoformat((await read_backlog(client))["estimated_end"])
    assert timedelta(seconds=99) < end - first < timedelta(seconds=160)


async def test_the_backlog_names_a_pause_that_a_person_has_to_end(
    client: Client, connected: ConnectedClient
) -> None:
    await connected.queue()
    await connected.pause("rate_limited", seconds=3600)
    backlog = await read_backlog(client)
    assert (backlog["pause"]["code"], backlog["pause"]["message"]) == ("rate_limited", "Wait.")
    assert backlog["estimated_end"] > backlog["pause"]["until"]
    await connected.pause("token_revoked", seconds=60)
    backlog = await read_backlog(client)
    assert (backlog["pause"]["until"], backlog["estimated_end"]) == (None, None)


async def test_the_backlog_says_that_a_pause_is_the_apps(
    client: Client, connected: ConnectedClient
) -> None:
    await connected.queue()
    await client.execute(
        "insert into publisher.delivery_apps (mode, paused_until, pause_code, pause_message) "
        "values ('simulated', now() + interval '1 hour', 'app_not_approved', 'Ask for access.')"
    )
    try:
        pause = (await read_backlog(client))["pause"]
        await connected.pause("rate_limited", seconds=3600)
        own = (await read_backlog(client))["pause"]
    finally:
        await client.execute("truncate publisher.delivery_apps")
    assert pause["message"] == "The app is paused: Ask for access."
    assert own["message"] == f"Wait. {pause['message']}", "the account's pause goes first"
    assert (own["code"], own["until"]) == ("rate_limited", None)


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        pytest.param("next_look_at = now() + interval '20 seconds'", 140, id="no look yet"),
        pytest.param(
            "next_look_at = now() + interval '90 seconds', absent_at = now()", 90, id="one look"
        ),
        pytest.param("deadline_at = now() - interval '1 minute'", 120, id="its sender died"),
    ],
)
@pytest.mark.parametrize("waiting", [0, 1])
async def test_the_backlog_does_not_end_before_pins_in_doubt_are_decided(
    client: Client, connected: ConnectedClient, looks: str, seconds: int, waiting: int
) -> None:
    pin_id = await connected.queue()
    await connected.set_state(pin_id, "confirming")
    await connected.attempt(pin_id)
    for _ in range(waiting):
        await connected.queue()
    sent = await read_backlog(client)
    start = datetime.now(UTC)
    assert datetime.fromisoformat(sent["estimated_end"]) - start < timedelta(seconds=30)
    await client.execute(
        f"update publisher.delivery_attempts set {looks} where pin_id = :id", id=pin_id
    )
    end = datetime.fromisoformat((await read_backlog(client))["estimated_end"])
    assert timedelta(seconds=seconds) <= end - start < timedelta(seconds=seconds + 30)


async def test_the_backlog_ends_after_the_last_pin_that_waits_by_itself(
    client: Client, connected: ConnectedClient
) -> None:
    waiting = [await connected.queue() for _ in range(2)]
    times = [datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2)]
    for pin_id, time in zip(waiting, times, strict=True):
        await client.execute(
            "update publisher.pins set deliver_after = :time, "
            "deferral_code = 'media_unreachable' where pin_id = :id",
            id=pin_id,
            time=time,
        )
    end = datetime.fromisoformat((await read_backlog(client))["estimated_end"])
    assert times[1] < end < times[1] + timedelta(minutes=1)
    await connected.queue()
    end = datetime.fromisoformat((await read_backlog(client))["estimated_end"])
    assert times[1] < end < times[1] + timedelta(minutes=1)


async def test_the_oldest_pin_counts_from_its_creation_if_it_was_due_before(
    client: Client, connected: ConnectedClient
) -> None:
    pin_id = await connected.queue()
    await client.execute(
        "update publisher.pins set run_at = now() - interval '1 day' where pin_id = :id", id=pin_id
    )
    pin = (await client.get(f"/v1/pins/{pin_id}")).json()
    assert (await read_backlog(client))["oldest_queued_at"] == pin["created_at"]


async def count_sharing(database: Database) -> int:
    app = await BacklogRepository(database, "simulated").read_app()
    count: int = app["sharing_accounts"]
    return count


async def connect_another(http: httpx.AsyncClient, database: Database) -> ConnectedClient:
    """Connects the account of a new workspace."""
    client = Client(http, await make_workspace(database), database)
    return await ConnectedClient.connect(client, database)


async def serve(connected: ConnectedClient) -> None:
    """Records that the account was served just now."""
    await connected.client.execute(
        "insert into publisher.pinterest_budgets (mode, account_id, category, level) "
        "values ('simulated', :id, 'org_write', 4)",
        id=connected.account_id,
    )


async def test_accounts_that_wait_for_the_apps_quota_share_it(
    client: Client, connected: ConnectedClient, database: Database, http: httpx.AsyncClient
) -> None:
    await client.execute("truncate publisher.pinterest_budgets")
    alone = await count_sharing(database)
    await connected.queue()
    other, served = [await connect_another(http, database) for _ in range(2)]
    for _ in range(2):
        await other.queue()
    assert await count_sharing(database) == alone + 2
    await serve(connected)
    await serve(served)
    assert await count_sharing(database) == alone + 3, "one is served and waits"
    await client.execute(
        "update access.connections set mode = 'sandbox' where account_id = :id",
        id=other.account_id,
    )
    assert await count_sharing(database) == alone + 2


@pytest.mark.parametrize(
    "change",
    ["health_code = 'token_revoked'", "health_code = 'token_expired'", "disconnected_at = now()"],
)
async def test_an_account_without_access_does_not_share_the_apps_quota(
    client: Client, connected: ConnectedClient, database: Database, change: str
) -> None:
    alone = await count_sharing(database)
    await connected.queue()
    await serve(connected)
    assert await count_sharing(database) == alone + 1
    await client.execute(
        f"update access.connections set {change} where account_id = :id", id=connected.account_id
    )
    assert await count_sharing(database) == alone


async def test_an_account_whose_pause_its_user_has_to_end_does_not_share_the_apps_quota(
    client: Client, connected: ConnectedClient, database: Database
) -> None:
    alone = await count_sharing(database)
    await connected.queue()
    await serve(connected)
    await connected.pause("scope_missing")
    assert await count_sharing(database) == alone
    await connected.pause("rate_limited")
    assert await count_sharing(database) == alone + 1, "this pause ends by itself"
    await connected.pause("scope_missing", seconds=-1)
    assert await count_sharing(database) == alone + 1, "the pause is over"


async def test_an_account_without_access_does_not_delay_the_end_of_others(
    client: Client, connected: ConnectedClient, database: Database, database_url: str
) -> None:
    for _ in range(3):
        await connected.queue()
    async with serving(
        database_url, pinterest_mode="simulated", delivery_app_writes_per_day=2
    ) as http:
        limited = Client(http, client.workspace, database)
        other = await connect_another(http, database)
        await other.queue()
        await client.execute(
            "update access.connections set health_code = 'token_revoked' where account_id <> :id",
            id=connected.account_id,
        )
        end = datetime.fromisoformat((await read_backlog(limited))["estimated_end"])
    days = (end - datetime.now(UTC)) / timedelta(days=1)
    assert 1 <= days < 1.1, "two pins today, one tomorrow"


async def test_an_account_that_is_connected_in_another_mode_is_not_connected(
    client: Client, connected: ConnectedClient
) -> None:
    await connected.queue()
    assert (await read_backlog(client))["pause"] is None
    await client.execute(
        "update access.connections set mode = 'sandbox' where account_id = :id",
        id=connected.account_id,
    )
    backlog = await read_backlog(client)
    assert backlog["pause"]["code"] == "account_not_connected"
    assert backlog["estimated_end"] is None


async def test_the_backlog_says_that_delivery_is_off(
    client: Client, connected: ConnectedClient, database_url: str, database: Database
) -> None:
    async with serving(database_url) as http:
        backlog = await read_backlog(Client(http, client.workspace, database))
    assert backlog["pause"]["code"] == "pinterest_off"


async def test_invariant_10_the_backlog_has_only_accounts_that_the_key_sees(
    client: Client, connected: ConnectedClient, database: Database, http: httpx.AsyncClient
) -> None:
    await connected.queue()
    stranger = Client(http, await make_workspace(database), database)
    assert (await stranger.get("/v1/deliveries")).json() == []
    limited = await client.workspace.create_limited_key(await client.workspace.add_account())
    answer = await client.send("GET", "/v1/deliveries", **{"X-API-Key": limited})
    assert answer.json() == []


# The rate meter asks the publisher


async def test_ingest_learns_what_is_left_at_pinterest(
    client: Client, connected: ConnectedClient
) -> None:
    sent = {
        "workspace_id": str(client.workspace.id),
        "account_id": str(connected.account_id),
    }
    answer = (await client.call_internally("pinterest/rate-meter", sent)).json()
    assert answer["account"] == {"tokens_available": 10.0, "capacity": 10.0, "refill_rate": 1.0}
    assert answer["global"]["capacity"] == 80.0
    await client.execute(
        "insert into publisher.pinterest_budgets (mode, account_id, category, level, refilled_at) "
        "values ('simulated', :id, 'org_write', 4, now() + interval '1 minute')",
        id=connected.account_id,
    )
    answer = (await client.call_internally("pinterest/rate-meter", sent)).json()
    assert answer["account"]["tokens_available"] < 4.1


async def test_ingest_learns_that_an_account_was_never_connected(client: Client) -> None:
    sent = {
        "workspace_id": str(client.workspace.id),
        "account_id": str(client.workspace.account_id),
    }
    answer = await client.call_internally("pinterest/rate-meter", sent)
    assert answer.json() == {"account": None, "global": None}
