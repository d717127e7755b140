"""Starts the servers that tests run on, and orders and marks the tests.

The servers are always real: one Kafka and one Postgres for a session (each worker of `make test`
has its own), new topics and a new database for each module.

The environment may name servers (PINFLOW_TEST_KAFKA_BOOTSTRAP_SERVERS, PINFLOW_TEST_DATABASE_URL:
an owner who may create databases and roles); PINFLOW_TEST_INFRA=docker starts containers; otherwise
the local stack's servers are started, without Docker.
"""

import gc
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest

from tests.support.authorities import sharing_authorities
from tests.support.infrastructure import Servers, fresh_database, fresh_topics, running_servers
from tests.support.scheduling import FileGroupScheduling
from tests.support.simulator import Simulator, running_simulator

LONGEST_FIRST = (
    "tests/acceptance/test_local_stack.py",
    "tests/acceptance/test_restores.py",
    "tests/acceptance/test_restores_kafka.py",
    "tests/acceptance/test_brokers.py",
    "tests/acceptance/test_bench.py",
    "tests/acceptance/test_bench_equal_work.py",
    "tests/acceptance/test_restarts.py",
    "tests/acceptance/test_keys.py",
    "tests/acceptance/test_outages.py",
    "tests/acceptance/test_overload.py",
    "tests/acceptance/hostile/test_requests.py",
    "tests/acceptance/hostile/test_openapi.py",
    "tests/acceptance/test_poison.py",
    "tests/acceptance/test_tenancy.py",
    "tests/acceptance/test_webhooks.py",
)
"""Files that take over 20 s. They start first, so that both workers end at about the same time.

All are acceptance tests: then each worker's shared deployment ends before the other tests begin.
A file of a group (tests/support/scheduling.py) brings the whole group.
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileGroupScheduling | None:
    """Keeps test files that share a deployment on one worker. Called with --dist only."""
    return FileGroupScheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects without the garbage collector, which would take 4 of 9 s of CPU time per worker.

    Afterwards it ignores the imported modules, as in a service.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need servers, and moves the longest files to the front."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.servers)
    items.sort(key=lambda item: rank(item.nodeid.partition("::")[0]))


def rank(file: str, longest: Sequence[str] = LONGEST_FIRST) -> int:
    return longest.index(file) if file in longest else len(longest)


@pytest.fixture(scope="session", autouse=True)
def _shared_authorities() -> Iterator[None]:
    with sharing_authorities():
        yield


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running_servers(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def kafka(stack: Servers) -> str:
    """Bootstrap servers of the session's Kafka.

    A test that kills a broker starts one of its own.
    """
    return stack.kafka_bootstrap_servers


@pytest.fixture(scope="module")
def topic_prefix(kafka: str) -> Iterator[str]:
    """A topic prefix. All topics under it exist and are empty."""
    with fresh_topics(kafka) as prefix:
        yield prefix


@pytest.fixture(scope="module")
def database_url(stack: Servers) -> Iterator[str]:
    """The owner's URL of an empty database with every migration applied."""
    with fresh_database(stack.database_url) as url:
        yield url


@pytest.fixture(scope="session")
def session_simulator() -> Iterator[Simulator]:
    """The process that all modules of a worker share. Tests use `simulator`."""
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def simulator(session_simulator: Simulator) -> Iterator[Simulator]:
    """A simulator of Pinterest for the module. It is as after its first start.

    At the module's end, what Pinflow sent is checked against Pinterest's description. A module that
    needs options of the command line starts one of its own.
    """
    yield session_simulator
    try:
        session_simulator.check_requests()
    finally:
        session_simulator.forget_everything()
