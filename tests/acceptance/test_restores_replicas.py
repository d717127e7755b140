"""Restores an older Postgres under two replicas of each service."""

from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import new_workspace
from tests.acceptance.test_restores import require_ended_as_seen, wait_for_imports
from tests.support.restores_imports import ImportScenario, importing
from tests.support.restores_installation import Installation, installed
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(
        tmp_path_factory.mktemp("restores"), 2, consumer_max_records="50"
    ) as installation:
        yield installation


def test_invariants_2_to_4_two_publishers_over_an_older_postgres_restore_everything(
    installation: Installation,
) -> None:
    workspace = new_workspace(installation.database_url)
    scenario = ImportScenario(installation, workspace)
    with installation.client(workspace) as client:
        scenario.import_before_backup(client)
        copy = installation.back_up_postgres()
        scenario.import_after_backup(client)
        before = installation.read_state(workspace, scenario.jobs)
        installation.restore_postgres(copy)
        installation.require_recovered(workspace, before)
        wait_until(installation.has_matching_offsets)
        scenario.import_again(client)


def test_invariants_2_to_4_two_publishers_continue_while_postgres_is_replaced_by_an_older_one(
    installation: Installation,
) -> None:
    workspace = new_workspace(installation.database_url)
    with importing(installation, workspace) as clients:
        wait_for_imports(clients, 5)
        copy = installation.back_up_postgres()
        wait_for_imports(clients, 10)
        installation.restore_postgres(copy)
        wait_for_imports(clients, 5)
    require_ended_as_seen(installation, workspace, clients)
