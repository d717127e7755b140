"""A process ends when a part of it is lost, even one that never came to life."""

import asyncio
import subprocess
import sys

import pytest

from deploy.local.layout import CHECKOUT
from shared.kafka.consumer import BatchConsumer
from shared.kafka.consumer_health.health import ConsumerLost
from shared.runtime import components
from shared.runtime.components import ServiceRuntime
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, subscription_of
from tests.support.fakes import MemorySender
from tests.support.waiting import eventually


class Lease:
    def __init__(self, *_: object) -> None:
        """Always had."""

    async def acquire(self) -> None:
        """At once."""

    async def keep(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        """At once."""


class Consumer(BatchConsumer):
    starting = 0
    """How many have begun to start."""

    async def start(self) -> None:
        """Never gets partitions."""
        Consumer.starting += 1
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """At once."""

    async def watch(self) -> None:
        if self.group.endswith("lost"):
            raise ConsumerLost("no partitions, although Kafka answers")
        await asyncio.Event().wait()


async def _there(_settings: object) -> None:
    """All topics are."""


@pytest.fixture
def left() -> list[str]:
    """Who has been removed from its group."""
    return []


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch, left: list[str]) -> None:
    async def leave(_settings: object, _group: str, member: str) -> None:
        left.append(member)

    monkeypatch.setattr(components, "ReplicaLease", Lease)
    monkeypatch.setattr(components, "require_topics", _there)
    monkeypatch.setattr(components, "leave_group", leave)
    monkeypatch.setattr(Consumer, "starting", 0)


def runtime_of(name: str, members: int = 1) -> ServiceRuntime:
    settings = ServiceSettings()
    consumers = [
        Consumer(subscription_of(name), settings, Handler(), MemorySender(), member=member)
        for member in range(members)
    ]
    return ServiceRuntime("unit", settings, consumers=consumers)


async def test_a_consumer_that_never_gets_partitions_is_watched_too() -> None:
    runtime = runtime_of("lost")
    lost = asyncio.Event()
    runtime.on_lost = lost.set
    runtime.start()
    await asyncio.wait_for(lost.wait(), 10)
    await runtime.stop()


async def test_members_of_one_group_join_together_and_leave_even_if_they_never_got_partitions(
    left: list[str],
) -> None:
    """One that waited for the other would find the group rebalanced; one that did not leave would
    keep its place for a session.
    """
    runtime = runtime_of("pair", members=2)
    runtime.start()
    await eventually(lambda: Consumer.starting == 2)
    assert not runtime.started
    await runtime.stop()
    assert left == ["pinflow.pair-0", "pinflow.pair.1-0"]


async def test_a_consumer_that_never_joined_does_not_leave(left: list[str]) -> None:
    await runtime_of("idle").stop()
    assert not left


LOSES_A_PART_AND_HANGS = """
import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from fastapi import FastAPI
from shared.runtime import process
from shared.runtime.settings import ServiceSettings

@asynccontextmanager
async def lifespan(app):
    asyncio.get_running_loop().call_later(0.2, lambda: app.state.runtime.on_lost())
    yield
    await asyncio.Event().wait()

process.LOST_SECONDS = 1.0
app = FastAPI(lifespan=lifespan)
app.state.runtime = SimpleNamespace()
process.serve(app, ServiceSettings(port=0))
"""


def test_a_process_that_lost_a_component_ends_even_if_it_cannot_stop() -> None:
    """What was lost may be what stopping waits for."""
    ended = subprocess.run(
        [sys.executable, "-c", LOSES_A_PART_AND_HANGS],
        cwd=CHECKOUT,
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1, ended.stderr
    assert "stop_timed_out" in ended.stdout


SHOWS_THE_COLLECTOR = """
import asyncio, gc
gc.disable()
from contextlib import asynccontextmanager
from types import SimpleNamespace
from fastapi import FastAPI
import shared.runtime.service  # imports what services import
from shared.runtime import process
from shared.runtime.settings import ServiceSettings

@asynccontextmanager
async def lifespan(app):
    print("collects", gc.isenabled(), "spares", gc.get_freeze_count() > 100_000)
    asyncio.get_running_loop().call_later(0.2, lambda: app.state.runtime.on_lost())
    yield

app = FastAPI(lifespan=lifespan)
app.state.runtime = SimpleNamespace()
process.serve(app, ServiceSettings(port=0))
"""


def test_the_garbage_collector_is_enabled_and_ignores_imported_modules() -> None:
    """Its __main__ switches the collector off before it imports anything."""
    ended = subprocess.run(
        [sys.executable, "-c", SHOWS_THE_COLLECTOR],
        cwd=CHECKOUT,
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "collects True spares True" in ended.stdout, ended.stderr


async def test_a_component_canceled_by_a_library_is_lost_too() -> None:
    runtime = runtime_of("quiet")
    lost = asyncio.Event()
    runtime.on_lost = lost.set
    runtime.start()
    await eventually(lambda: runtime._tasks)
    next(iter(runtime._tasks)).cancel()
    await asyncio.wait_for(lost.wait(), 10)
    await runtime.stop()
