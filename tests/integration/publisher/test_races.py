"""Commands against the scheduler, and against each other, at the same moment: one of them wins, and
what is told is what is so.
"""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text

from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePinRepository
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client, pin_of, refusal
from tests.support.waiting import eventually

SCHEDULES = 60


@pytest.fixture
async def due(client: Client) -> list[dict[str, Any]]:
    keys = [f"due-{number}" for number in range(SCHEDULES)]
    schedules = await asyncio.gather(*(client.scheduled(idempotency_key=key) for key in keys))
    await client.execute(
        "update publisher.pins set run_at = now() - interval '1 second' where workspace_id = :id "
        "and state = 'scheduled'",
        id=client.workspace.id,
    )
    return list(schedules)


async def publish(client: Client, database: Database) -> None:
    """Two schedulers, as of two replicas, in small steps, until nothing is due."""
    schedulers = [
        Scheduler(DuePinRepository(database), client.workspace.access, 3) for _ in range(2)
    ]

    async def work(scheduler: Scheduler) -> None:
        while await scheduler.publish_due():
            pass

    await asyncio.gather(*map(work, schedulers))


async def outcome(client: Client, schedule: dict[str, Any]) -> tuple[str, list[str]]:
    """Its status, and what was announced after it was made."""
    status = (await client.get(f"/v1/schedules/{schedule['id']}")).json()["status"]
    return status, (await client.events(pin_of(schedule)))[1:]


async def test_of_cancelling_and_publishing_one_wins(
    client: Client, database: Database, due: list[dict[str, Any]]
) -> None:
    in_turn = random.Random(7).sample(due, len(due))
    publishing = asyncio.create_task(publish(client, database))
    answers = await asyncio.gather(
        *(client.post(f"/v1/schedules/{one['id']}/cancel") for one in in_turn)
    )
    await publishing
    assert {answer.status_code for answer in answers} <= {200, 409}
    for schedule, answer in zip(in_turn, answers, strict=True):
        assert await outcome(client, schedule) == (
            ("canceled", []) if answer.status_code == 200 else ("done", ["published"])
        )


async def test_a_cancellation_waits_for_the_scheduler_that_has_the_row_and_loses(
    client: Client, database: Database
) -> None:
    schedule = await client.due()
    taken, let_go = asyncio.Event(), asyncio.Event()

    async def publish_slowly() -> int:
        async with DuePinRepository(database).batch(10) as batch:
            taken.set()
            await let_go.wait()
            await batch.publish(failures={})
        return len(batch.pins)

    publishing = asyncio.create_task(publish_slowly())
    await taken.wait()
    cancelling = asyncio.create_task(client.post(f"/v1/schedules/{schedule['id']}/cancel"))

    async def is_waiting() -> bool:
        return bool(await database.fetch_all(text("select from pg_locks where not granted")))

    await eventually(is_waiting)
    let_go.set()
    assert await publishing == 1
    assert refusal(await cancelling) == (409, "schedule_not_pending")
    assert await outcome(client, schedule) == ("done", ["published"])


async def test_the_scheduler_passes_over_what_a_command_has_locked(
    client: Client, database: Database
) -> None:
    schedule, other = await client.due(), await client.due()
    async with database.transaction() as connection:
        lock = text("select from publisher.pins where pin_id = :id for update")
        await connection.execute(lock, {"id": pin_of(schedule)})
        assert await client.run_due() == 1
        assert (await outcome(client, schedule))[0] == "queued"
    assert await outcome(client, other) == ("done", ["published"])
    assert await client.run_due() == 1


async def test_of_deleting_many_and_publishing_none_is_lost(
    client: Client, database: Database, due: list[dict[str, Any]]
) -> None:
    halves = [due[::2], list(reversed(due))]
    publishing = asyncio.create_task(publish(client, database))
    answers = await asyncio.gather(
        *(
            client.post("/v1/schedules/bulk-delete", {"ids": [one["id"] for one in half]})
            for half in halves
        )
    )
    await publishing
    succeeded = Counter(
        one["id"]
        for answer in answers
        for one in answer.json()["results"]
        if one["status"] == "succeeded"
    )
    for schedule in due:
        events = (await client.events(pin_of(schedule)))[1:]
        answer = await client.get(f"/v1/schedules/{schedule['id']}")
        if succeeded[schedule["id"]]:
            assert (succeeded[schedule["id"]], answer.status_code, events) == (1, 404, [])
        else:
            assert (answer.json()["status"], events) == ("done", ["published"])


async def test_an_edit_of_what_is_due_is_published_or_refused(
    client: Client, database: Database, due: list[dict[str, Any]]
) -> None:
    publishing = asyncio.create_task(publish(client, database))
    answers = await asyncio.gather(
        *(client.patch(f"/v1/pins/{pin_of(one)}", {"title": "In time"}) for one in reversed(due))
    )
    await publishing
    for schedule, answer in zip(reversed(due), answers, strict=True):
        pin = (await client.get(f"/v1/pins/{pin_of(schedule)}")).json()
        assert pin["status"] == "published"
        assert (pin["title"] == "In time") is (answer.status_code == 200)


async def test_commands_on_the_same_pins_in_any_order_do_not_deadlock(
    client: Client, due: list[dict[str, Any]]
) -> None:
    ids = [one["id"] for one in due]
    commands = ["cancel", "retry"] * 5
    answers = await asyncio.gather(
        *(
            client.post(
                f"/v1/schedules/bulk-{command}", {"ids": random.Random(turn).sample(ids, len(ids))}
            )
            for turn, command in enumerate(commands)
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    for schedule in due:
        status, _ = await outcome(client, schedule)
        assert status in {"canceled", "queued"}
