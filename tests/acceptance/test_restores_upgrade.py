"""The first start after an upgrade from a version that stored no positions in Postgres."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.conftest import new_workspace
from tests.support.restores_imports import ImportScenario
from tests.support.restores_installation import SERVICES_WITH_POSITIONS, Installation, installed
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEEDED_SERVICES = ("publisher", "status")
"""Services that have consumed records. No webhook is registered, so webhooks has not."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("restores")) as installation:
        yield installation


@pytest.fixture
def workspace(installation: Installation) -> NewWorkspace:
    return new_workspace(installation.database_url)


@pytest.fixture
def client(installation: Installation, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    with installation.client(workspace) as client:
        yield client


def test_the_first_start_after_the_upgrade_reads_nothing_again(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
) -> None:
    scenario = ImportScenario(installation, workspace)
    scenario.import_before_backup(client)
    scenario.import_after_backup(client)
    wait_until(lambda: installation.has_matching_offsets() and installation.has_announced_all())
    before = installation.read_state(workspace, scenario.jobs)
    events = installation.count_pin_events(workspace)
    installation.stop_services()
    committed = {
        service: installation.read_committed_offsets(service) for service in SEEDED_SERVICES
    }
    forget_positions(installation, seeds=SEEDED_SERVICES)
    installation.start_services()
    wait_until(lambda: not find_seeds(installation))
    for service in SEEDED_SERVICES:
        stored = installation.read_positions(service)
        assert {
            partition: stored[partition].next_offset for partition in committed[service]
        } == committed[service]
        assert {position.replay_until for position in stored.values()} == {None}
    installation.require_recovered(workspace, before)
    scenario.import_again(client)
    # The job may end before its pin event is in the topic
    wait_until(lambda: installation.count_pin_events(workspace) > events)
    assert installation.count_pin_events(workspace) == events + 1  # for the new key


def test_a_first_start_without_any_position_reads_everything_again_and_changes_nothing(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
) -> None:
    scenario = ImportScenario(installation, workspace)
    scenario.import_before_backup(client)
    scenario.import_after_backup(client)
    wait_until(lambda: installation.has_matching_offsets() and installation.has_announced_all())
    before = installation.read_state(workspace, scenario.jobs)
    events = installation.count_pin_events(workspace)
    installation.stop_services()
    forget_positions(installation, seeds=())
    installation.start_services()
    installation.require_recovered(workspace, before)
    wait_until(installation.has_matching_offsets)
    assert installation.count_pin_events(workspace) > events  # sent again with the same ids
    scenario.import_again(client)


def forget_positions(installation: Installation, *, seeds: tuple[str, ...]) -> None:
    """Restores the state after revision 0012: no positions, and a seed in the schemas `seeds`."""
    with psycopg.connect(installation.database_url) as connection:
        for schema in SERVICES_WITH_POSITIONS:
            connection.execute(f"delete from {schema}.positions".encode())
        for schema in seeds:
            connection.execute(f"insert into {schema}.position_seed default values".encode())


def find_seeds(installation: Installation) -> list[str]:
    with psycopg.connect(installation.database_url) as connection:
        return [
            schema
            for schema in SERVICES_WITH_POSITIONS
            if connection.execute(f"select from {schema}.position_seed".encode()).rowcount
        ]
