"""The first start on an installation from before positions were stored."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest

from deploy.administration import NewWorkspace
from tests.acceptance.conftest import new_workspace
from tests.support.restores_installation import KEEPERS, Installation, installed
from tests.support.restores_work import Work
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)
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
    work = Work(installation, workspace)
    work.before_backup(client)
    work.after_backup(client)
    until(lambda: installation.is_level() and installation.has_announced_all())
    before = installation.record(workspace, work.jobs)
    events = installation.pin_events(workspace)
    installation.stop_services()
    committed = {service: installation.committed(service) for service in SEEDED}
    forget_positions(installation, seeds=SEEDED)
    installation.start_services()
    until(lambda: not seeds_of(installation))
    for service in SEEDED:
        stored = installation.positions(service)
        assert {one: stored[one].next_offset for one in committed[service]} == committed[service]
        assert {position.replay_until for position in stored.values()} == {None}
    installation.require_healed(workspace, before)
    work.go_on(client)
    assert installation.pin_events(workspace) == events + 1  # the new key's


def test_a_first_start_without_any_position_reads_everything_again_and_changes_nothing(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
) -> None:
    work = Work(installation, workspace)
    work.before_backup(client)
    work.after_backup(client)
    until(lambda: installation.is_level() and installation.has_announced_all())
    before = installation.record(workspace, work.jobs)
    events = installation.pin_events(workspace)
    installation.stop_services()
    forget_positions(installation, seeds=())
    installation.start_services()
    installation.require_healed(workspace, before)
    until(installation.is_level)
    assert installation.pin_events(workspace) > events  # announced again, under the same ids
    work.go_on(client)


def forget_positions(installation: Installation, *, seeds: tuple[str, ...]) -> None:
    """Leaves what revision 0012 leaves: no positions, and a seed in these schemas."""
    with psycopg.connect(installation.database_url) as connection:
        for schema in KEEPERS:
            connection.execute(f"delete from {schema}.positions".encode())
        for schema in seeds:
            connection.execute(f"insert into {schema}.position_seed default values".encode())


def seeds_of(installation: Installation) -> list[str]:
    with psycopg.connect(installation.database_url) as connection:
        return [
            schema
            for schema in KEEPERS
            if connection.execute(f"select from {schema}.position_seed".encode()).rowcount
        ]
