"""A process ends when a component is lost, even one that never finished its start."""

import asyncio
import os
import subprocess
import sys

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from structlog.testing import capture_logs

from deploy.local.layout import CHECKOUT
from shared.kafka.consumer import BatchConsumer
from shared.kafka.consumer_health.health import ConsumerLost
from shared.runtime import components, process
from shared.runtime.components import ServiceRuntime
from shared.runtime.process import run
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, build_subscription
from tests.support.fakes import MemorySender
from tests.support.waiting import eventually


class Lease:
    def __init__(self, *_: object) -> None:
        """Accepts any arguments. The lease is always free."""

    async def acquire(self) -> None:
        """Returns at once."""

    async def keep(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Returns at once."""


class Consumer(BatchConsumer):
    starting = 0
    """The number of consumers that have begun to start."""

    async def start(self) -> None:
        """Never gets partitions."""
        Consumer.starting += 1
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Returns at once."""

    async def watch(self) -> None:
        if self.group.endswith("lost"):
            raise ConsumerLost("no partitions, although Kafka answers")
        await asyncio.Event().wait()


async def _topics_exist(_settings: object) -> None:
    """Finds all topics."""


@pytest.fixture
def removed_members() -> list[str]:
    """The members that have been removed from their group."""
    return []


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch, removed_members: list[str]) -> None:
    async def leave(_settings: object, _group: str, member: str) -> None:
        removed_members.append(member)

    monkeypatch.setattr(components, "ReplicaLease", Lease)
    monkeypatch.setattr(components, "require_topics", _topics_exist)
    monkeypatch.setattr(components, "leave_group", leave)
    monkeypatch.setattr(Consumer, "starting", 0)


def build_runtime(name: str, members: int = 1) -> ServiceRuntime:
    settings = ServiceSettings()
    consumers = [
        Consumer(build_subscription(name), settings, Handler(), MemorySender(), member=member)
        for member in range(members)
    ]
    return ServiceRuntime("unit", settings, consumers=consumers)


async def test_a_consumer_that_never_gets_partitions_is_watched_too() -> None:
    runtime = build_runtime("lost")
    lost = asyncio.Event()
    runtime.on_lost = lost.set
    runtime.start()
    await asyncio.wait_for(lost.wait(), 10)
    await runtime.stop()


async def test_members_of_one_group_join_together_and_leave_even_if_they_never_got_partitions(
    removed_members: list[str],
) -> None:
    """If they joined one after the other, each join would start a rebalance. A member that does not
    leave keeps its partitions until its session times out.
    """
    runtime = build_runtime("pair", members=2)
    runtime.start()
    await eventually(lambda: Consumer.starting == 2)
    assert not runtime.started
    await runtime.stop()
    assert removed_members == ["pinflow.pair-0", "pinflow.pair.1-0"]


async def test_a_consumer_that_never_joined_does_not_leave(removed_members: list[str]) -> None:
    await build_runtime("idle").stop()
    assert not removed_members


LOSES_A_COMPONENT_AND_HANGS = """
import asyncio
import os
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

process.LOST_SECONDS = 0.2
app = FastAPI(lifespan=lifespan)
app.state.runtime = SimpleNamespace()
process.serve(app, ServiceSettings(port=0))
"""


def test_a_process_that_lost_a_component_ends_even_if_it_cannot_stop() -> None:
    """Stopping may wait for the lost component."""
    ended = subprocess.run(
        [sys.executable, "-c", LOSES_A_COMPONENT_AND_HANGS],
        cwd=CHECKOUT,
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1, ended.stderr
    assert "stop_timed_out" in ended.stdout


SHOWS_THE_GARBAGE_COLLECTOR = """
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
    print("enabled", gc.isenabled(), "frozen", gc.get_freeze_count() > 100_000)
    asyncio.get_running_loop().call_later(0.2, lambda: app.state.runtime.on_lost())
    yield

app = FastAPI(lifespan=lifespan)
app.state.runtime = SimpleNamespace()
process.serve(app, ServiceSettings(port=0))
"""


def test_the_garbage_collector_is_enabled_and_ignores_imported_modules() -> None:
    """The service's __main__ disables the collector before its imports."""
    ended = subprocess.run(
        [sys.executable, "-c", SHOWS_THE_GARBAGE_COLLECTOR],
        cwd=CHECKOUT,
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "enabled True frozen True" in ended.stdout, ended.stderr


@pytest.mark.parametrize(("setting", "seconds"), [(0.5, 1), (1, 1), (15, 15), (15.5, 16)])
def test_requests_in_progress_get_at_least_the_set_time_to_finish(
    setting: float, seconds: int
) -> None:
    settings = ServiceSettings(stop_timeout_seconds=setting)
    assert process.configure_server(FastAPI(), settings).timeout_graceful_shutdown == seconds


async def test_a_component_canceled_by_a_library_is_lost_too() -> None:
    runtime = build_runtime("quiet")
    lost = asyncio.Event()
    runtime.on_lost = lost.set
    runtime.start()
    await eventually(lambda: runtime._tasks)
    next(iter(runtime._tasks)).cancel()
    await asyncio.wait_for(lost.wait(), 10)
    await runtime.stop()


def test_a_wrong_setting_ends_the_process_with_the_variable_and_without_the_value() -> None:
    def read_settings() -> ServiceSettings:
        return ServiceSettings(database_url=SecretStr("hunter2"), database_pool_size=500)

    with pytest.raises(SystemExit) as ended:
        run("ingest", read_settings, lambda _: FastAPI())
    message = str(ended.value)
    assert "\n  PINFLOW_DATABASE_URL: must have the form postgresql://" in message
    assert "\n  PINFLOW_DATABASE_POOL_SIZE: must be at most 100" in message
    assert "hunter2" not in message


def test_a_variable_without_effect_is_logged_with_the_setting_that_may_be_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("PINFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PINFLOW_LOG_LEVL", "DEBUG")
    monkeypatch.setenv("PINFLOW_API_KEY", "of the command")
    with capture_logs() as logs:
        process._log_unread_variables(ServiceSettings())
    assert logs == [
        {
            "event": "setting_unknown",
            "log_level": "warning",
            "variable": "PINFLOW_LOG_LEVL",
            "did_you_mean": "PINFLOW_LOG_LEVEL",
            "settings": "docs/reference/settings.md",
        },
        {
            "event": "settings_not_read",
            "log_level": "info",
            "variables": ["PINFLOW_API_KEY"],
        },
    ]
