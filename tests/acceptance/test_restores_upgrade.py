"""The first start on an installation from before positions were stored."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.conftest import new_workspace
from tests.support.restores_imports import ImportScenario
from tests.support.restores_installation import SERVICES_WITH_POSITIONS, Installation, installed
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SEEDED = ("publisher", "status")
"""What has worked. Webhooks has no endpoint."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("restores")) as made:
        yield made


@pytest.fixture
def workspace(installation: Installation) -> NewWorkspace:
    return new_workspace(installation.database_url)


@pytest.fixture
def client(installation: Installation, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    with installation.client(workspace) as client:
        yield client


def test_the_first_start_on_an_installation_from_before_reads_nothing_again(
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
    committed = {service: installation.read_committed_offsets(service) for service in SEEDED}
    forget_positions(installation, seeds=SEEDED)
    installation.start_services()
    wait_until(lambda: not seeds_of(installation))
    for service in SEEDED:
        stored = installation.read_positions(service)
        assert {one: stored[one].next_offset for one in committed[service]} == committed[service]
        assert {position.replay_until for position in stored.values()} == {None}
    installation.require_recovered(workspace, before)
    scenario.import_again(client)
    assert installation.count_pin_events(workspace) == events + 1  # the new key's


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
    assert installation.count_pin_events(workspace) > events  # announced again, under the same ids
    scenario.import_again(client)


def forget_positions(installation: Installation, *, seeds: tuple[str, ...]) -> None:
    """Leaves what revision 0012 leaves: no positions, and a seed in these schemas."""
    with psycopg.connect(installation.database_url) as connection:
        for schema in SERVICES_WITH_POSITIONS:
            connection.execute(f"delete from {schema}.positions".encode())
        for schema in seeds:
            connection.execute(f"insert into {schema}.position_seed default values".encode())


def seeds_of(installation: Installation) -> list[str]:
    with psycopg.connect(installation.database_url) as connection:
        return [
            schema
            for schema in SERVICES_WITH_POSITIONS
            if connection.execute(f"select from {schema}.position_seed".encode()).rowcount
        ]
