"""Commands against the scheduler, and against each other, at the same moment: one of them wins, and what is told is what is so."""

import asyncio
import random
from collections import Counter
from typing import Any

import httpx
import pytest

from services.publisher.repository import PinStore
from services.publisher.scheduler import Scheduler
from shared.database import Database
from tests.integration.publisher.conftest import Client, pin_of

SCHEDULES = 60


@pytest.fixture
async def due(client: Client) -> list[dict[str, Any]]:
    keys = [f"due-{number}" for number in range(SCHEDULES)]
    schedules = await asyncio.gather(*(client.scheduled(idempotency_key=key) for key in keys))
    await client.execute(
        "update publisher.pins set run_at = now() - interval '1 second' where workspace_id = :id and state = 'scheduled'",
        id=client.workspace.id,
    )
    return list(schedules)


async def publish(client: Client, database: Database) -> None:
    """Two schedulers, as of two replicas, in small steps, until nothing is due."""
    schedulers = [Scheduler(PinStore(database), client.workspace.access, 3) for _ in range(2)]

    async def work(scheduler: Scheduler) -> None:
        while await scheduler.sweep():
            pass

    await asyncio.gather(*map(work, schedulers))


async def outcome(client: Client, schedule: dict[str, Any]) -> tuple[str, list[str]]:
    """Its status, and what was announced after it was made."""
    status = (await client.get(f"/v1/schedules/{schedule['id']}")).json()["status"]
    return status, (await client.events(pin_of(schedule)))[1:]


async def test_of_cancelling_and_publishing_one_wins(client: Client, database: Database, due: list[dict[str, Any]]) -> None:
    in_turn = random.Random(7).sample(due, len(due))
    _, *answers = await asyncio.gather(
        publish(client, database), *(client.post(f"/v1/schedules/{one['id']}/cancel") for one in in_turn)
    )
    told = {one["id"]: answer for one, answer in zip(in_turn, answers, strict=True)}
    seen = Counter[int]()
    for schedule in due:
        answer = told[schedule["id"]]
        seen[answer.status_code] += 1
        expected = ("canceled", []) if answer.status_code == 200 else ("done", ["published"])
        assert (await outcome(client, schedule), answer.status_code in {200, 409}) == (expected, True)
    assert len(seen) == 2, f"no race: {seen}"


async def test_of_deleting_many_and_publishing_none_is_lost(client: Client, database: Database, due: list[dict[str, Any]]) -> None:
    halves = [due[::2], list(reversed(due))]
    _, *answers = await asyncio.gather(
        publish(client, database),
        *(client.post("/v1/schedules/bulk-delete", {"ids": [one["id"] for one in half]}) for half in halves),
    )
    succeeded = Counter(one["id"] for answer in answers for one in answer.json()["results"] if one["status"] == "succeeded")
    for schedule in due:
        events = (await client.events(pin_of(schedule)))[1:]
        answer = await client.get(f"/v1/schedules/{schedule['id']}")
        if succeeded[schedule["id"]]:
            assert (succeeded[schedule["id"]], answer.status_code, events) == (1, 404, [])
        else:
            assert (answer.json()["status"], events) == ("done", ["published"])


async def test_an_edit_of_what_is_due_is_published_or_refused(client: Client, database: Database, due: list[dict[str, Any]]) -> None:
    _, *answers = await asyncio.gather(
        publish(client, database), *(client.patch(f"/v1/pins/{pin_of(one)}", {"title": "In time"}) for one in reversed(due))
    )
    told: dict[str, httpx.Response] = {one["id"]: answer for one, answer in zip(reversed(due), answers, strict=True)}
    for schedule in due:
        pin = (await client.get(f"/v1/pins/{pin_of(schedule)}")).json()
        assert pin["status"] == "published"
        assert (pin["title"] == "In time") is (told[schedule["id"]].status_code == 200)


async def test_commands_on_the_same_pins_in_any_order_do_not_deadlock(client: Client, due: list[dict[str, Any]]) -> None:
    ids = [one["id"] for one in due]
    commands = ["cancel", "retry"] * 5
    answers = await asyncio.gather(
        *(
            client.post(f"/v1/schedules/bulk-{command}", {"ids": random.Random(turn).sample(ids, len(ids))})
            for turn, command in enumerate(commands)
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    for schedule in due:
        status, _ = await outcome(client, schedule)
        assert status in {"canceled", "queued"}
