"""Races of commands with the scheduler and with each other: one wins, and each answer is right."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text

from services.publisher.scheduler import Scheduler
from services.publisher.scheduler_repository import DuePinRepository
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client, find_pin_id, read_error
from tests.support.waiting import eventually

SCHEDULES = 60


@pytest.fixture
async def due(client: Client) -> list[dict[str, Any]]:
    keys = [f"due-{number}" for number in range(SCHEDULES)]
    schedules = await asyncio.gather(*(client.create_schedule(idempotency_key=key) for key in keys))
    await client.execute(
        "update publisher.pins set run_at = now() - interval '1 second' where workspace_id = :id "
        "and state = 'scheduled'",
        id=client.workspace.id,
    )
    return list(schedules)


async def publish_all_due(client: Client, database: Database) -> None:
    """Runs two schedulers, like two replicas, in small batches until nothing is due."""
    schedulers = [
        Scheduler(DuePinRepository(database), client.workspace.access, 3) for _ in range(2)
    ]

    async def publish_in_steps(scheduler: Scheduler) -> None:
        while await scheduler.publish_due():
            pass

    await asyncio.gather(*map(publish_in_steps, schedulers))


async def read_outcome(client: Client, schedule: dict[str, Any]) -> tuple[str, list[str]]:
    """Reads the schedule's status, and its events after the first one."""
    status = (await client.get(f"/v1/schedules/{schedule['id']}")).json()["status"]
    return status, (await client.events(find_pin_id(schedule)))[1:]


async def test_either_the_cancellation_or_the_publication_wins(
    client: Client, database: Database, due: list[dict[str, Any]]
) -> None:
    shuffled = random.Random(7).sample(due, len(due))
    publishing = asyncio.create_task(publish_all_due(client, database))
    answers = await asyncio.gather(
        *(client.post(f"/v1/schedules/{schedule['id']}/cancel") for schedule in shuffled)
    )
    await publishing
    assert {answer.status_code for answer in answers} <= {200, 409}
    for schedule, answer in zip(shuffled, answers, strict=True):
        assert await read_outcome(client, schedule) == (
            ("canceled", []) if answer.status_code == 200 else ("done", ["published"])
        )


async def test_a_cancellation_waits_for_the_schedulers_row_lock_and_loses(
    client: Client, database: Database
) -> None:
    schedule = await client.create_due_schedule()
    taken, may_publish = asyncio.Event(), asyncio.Event()

    async def publish_slowly() -> int:
        async with DuePinRepository(database).lock_due(10) as batch:
            taken.set()
            await may_publish.wait()
            await batch.publish(failures={})
        return len(batch.pins)

    publishing = asyncio.create_task(publish_slowly())
    await taken.wait()
    cancelling = asyncio.create_task(client.post(f"/v1/schedules/{schedule['id']}/cancel"))

    async def is_waiting() -> bool:
        return bool(await database.fetch_all(text("select from pg_locks where not granted")))

    await eventually(is_waiting)
    may_publish.set()
    assert await publishing == 1
    assert read_error(await cancelling) == (409, "schedule_not_pending")
    assert await read_outcome(client, schedule) == ("done", ["published"])


async def test_the_scheduler_skips_rows_that_a_command_has_locked(
    client: Client, database: Database
) -> None:
    schedule, other = await client.create_due_schedule(), await client.create_due_schedule()
    async with database.transaction() as connection:
        lock = text("select from publisher.pins where pin_id = :id for update")
        await connection.execute(lock, {"id": find_pin_id(schedule)})
        assert await client.publish_due() == 1
        assert (await read_outcome(client, schedule))[0] == "queued"
    assert await read_outcome(client, other) == ("done", ["published"])
    assert await client.publish_due() == 1


async def test_each_schedule_is_either_deleted_or_published(
    client: Client, database: Database, due: list[dict[str, Any]]
) -> None:
    halves = [due[::2], list(reversed(due))]
    publishing = asyncio.create_task(publish_all_due(client, database))
    answers = await asyncio.gather(
        *(
            client.post("/v1/schedules/bulk-delete", {"ids": [schedule["id"] for schedule in half]})
            for half in halves
        )
    )
    await publishing
    succeeded = Counter(
        schedule["id"]
        for answer in answers
        for schedule in answer.json()["results"]
        if schedule["status"] == "succeeded"
    )
    for schedule in due:
        events = (await client.events(find_pin_id(schedule)))[1:]
        answer = await client.get(f"/v1/schedules/{schedule['id']}")
        if succeeded[schedule["id"]]:
            assert (succeeded[schedule["id"]], answer.status_code, events) == (1, 404, [])
        else:
            assert (answer.json()["status"], events) == ("done", ["published"])


async def test_an_edit_of_a_due_pin_is_published_or_refused(
    client: Client, database: Database, due: list[dict[str, Any]]
) -> None:
    publishing = asyncio.create_task(publish_all_due(client, database))
    answers = await asyncio.gather(
        *(
            client.patch(f"/v1/pins/{find_pin_id(schedule)}", {"title": "In time"})
            for schedule in reversed(due)
        )
    )
    await publishing
    for schedule, answer in zip(reversed(due), answers, strict=True):
        pin = (await client.get(f"/v1/pins/{find_pin_id(schedule)}")).json()
        assert pin["status"] == "published"
        assert (pin["title"] == "In time") is (answer.status_code == 200)


async def test_commands_on_the_same_pins_in_any_order_do_not_deadlock(
    client: Client, due: list[dict[str, Any]]
) -> None:
    ids = [schedule["id"] for schedule in due]
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
        status, _ = await read_outcome(client, schedule)
        assert status in {"canceled", "queued"}
