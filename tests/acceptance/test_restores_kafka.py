"""Kafka loses records: affected partitions stop until an operator accepts the loss."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import httpx
import pytest
from aiokafka import TopicPartition

from deploy.administration import NewWorkspace
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.positions.rules import Refusal
from tests.acceptance.conftest import new_workspace
from tests.acceptance.rows import rows_for, submit_until_accepted
from tests.support.deployment import is_live
from tests.support.kafka import add_partitions, delete_records, read_offset_ranges
from tests.support.restores_imports import ImportScenario
from tests.support.restores_installation import (
    SERVICES_WITH_POSITIONS,
    Installation,
    installed,
    read_counters,
    submit,
    submit_at_once,
    wait_until_completed,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
READERS = ("publisher", "status")
"""The services that read imports."""
IMPORTS = 12
"""Enough imports to reach every partition, or all except one."""

RefusedPositions = dict[tuple[str, TopicPartition], str]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("restores")) as installation:
        yield installation


@pytest.fixture
def workspace(installation: Installation) -> NewWorkspace:
    return new_workspace(installation.database_url)


@pytest.fixture
def client(installation: Installation, workspace: NewWorkspace) -> Iterator[httpx.Client]:
    if installation.find_refused_positions():  # left by a failed test
        installation.accept_losses()
        installation.deployment.wait_until_ready()
    with installation.client(workspace) as client:
        yield client


@pytest.fixture
def scenario(installation: Installation, workspace: NewWorkspace) -> ImportScenario:
    return ImportScenario(installation, workspace)


def test_a_recreated_kafka_is_refused_until_an_operator_accepts_the_loss(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    scenario.import_before_backup(client)
    scenario.import_after_backup(client)
    before = installation.read_state(workspace, scenario.jobs)
    installation.recreate_kafka()
    refused = wait_for_refusals(installation, Refusal.OTHER_CLUSTER, expected=all_positions)
    imports = import_meanwhile(installation, workspace, client, refused)
    installation.accept_losses()
    installation.deployment.wait_until_ready()
    assert sorted(read_counters(wait_until_completed(client, job_id)) for job_id in imports) == [
        (0, 30, 0),
        (10, 20, 0),
    ]
    installation.require_recovered(workspace, before, since=imports)
    scenario.import_again(client)


def test_a_kafka_cut_back_to_an_earlier_end_is_refused_until_an_operator_accepts_the_loss(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    scenario.import_before_backup(client)
    copy = installation.back_up_kafka()
    scenario.import_after_backup(client)
    before = installation.read_state(workspace, scenario.jobs)
    installation.restore_kafka(copy)
    refused = wait_for_refusals(installation, Refusal.BEYOND_END, expected=positions_beyond_the_end)
    imports = import_meanwhile(installation, workspace, client, refused)
    installation.accept_losses()
    installation.deployment.wait_until_ready()
    assert sorted(read_counters(wait_until_completed(client, job_id)) for job_id in imports) == [
        (0, 30, 0),
        (10, 20, 0),
    ]
    installation.require_recovered(workspace, before, since=imports)
    scenario.import_again(client)


def test_records_that_kafka_deleted_too_early_are_refused_until_an_operator_accepts_the_loss(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    scenario.import_before_backup(client)
    scenario.import_after_backup(client)
    before = installation.read_state(workspace, scenario.jobs)
    for name in READERS:
        installation.deployment.programs[name].terminate()
    submit_at_once(
        client, [rows_for(workspace, 5, prefix=f"lost-{number}") for number in range(IMPORTS)]
    )
    asyncio.run(
        delete_records(
            installation.settings.kafka_bootstrap_servers,
            topic_name(installation, TopicName.IMPORTS),
        )
    )
    for name in READERS:
        installation.deployment.restart(name)
        url = installation.deployment.service_url(name)
        installation.deployment.programs[name].wait_until(lambda: is_live(url))  # noqa: B023
    refused = wait_for_refusals(
        installation,
        Refusal.BEFORE_BEGIN,
        expected=positions_before_the_begin,
    )
    imports = import_meanwhile(installation, workspace, client, refused)
    installation.accept_losses()
    installation.deployment.wait_until_ready()
    assert sorted(read_counters(wait_until_completed(client, job_id)) for job_id in imports) == [
        (0, 30, 0),
        (10, 20, 0),
    ]
    installation.require_recovered(workspace, before, since=imports)
    scenario.import_again(client)


def test_with_kafka_and_postgres_lost_the_backups_data_stays_and_imports_continue(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    scenario: ImportScenario,
) -> None:
    scenario.import_before_backup(client)
    before = installation.read_state(workspace, scenario.jobs)
    copy = installation.back_up_postgres()
    scenario.import_after_backup(client)
    installation.stop_services()
    installation.recreate_kafka()
    installation.restore_postgres(copy)
    for name in installation.deployment.programs:
        installation.deployment.restart(name)
    installation.deployment.programs["gateway"].wait_until(
        lambda: is_live(installation.deployment.service_url("ingest")),
    )
    wait_for_refusals(installation, Refusal.OTHER_CLUSTER, expected=all_positions)
    installation.accept_losses()
    installation.deployment.wait_until_ready()
    installation.require_recovered(workspace, before)
    again = submit(client, rows_for(workspace, 40, prefix="early"))
    assert read_counters(wait_until_completed(client, again)) == (0, 40, 0)
    new = submit(client, rows_for(workspace, 20, prefix="shared-0"))
    assert read_counters(wait_until_completed(client, new)) == (20, 0, 0)


def test_more_partitions_are_read_from_their_beginning(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
) -> None:
    kafka, imports = (
        installation.settings.kafka_bootstrap_servers,
        topic_name(installation, TopicName.IMPORTS),
    )
    asyncio.run(add_partitions(kafka, imports, 9))
    asyncio.run(add_partitions(kafka, topic_name(installation, TopicName.OUTCOMES), 9))
    installation.deployment.programs["ingest"].terminate()
    installation.deployment.restart("ingest")
    installation.deployment.wait_until_ready()
    jobs: list[str] = []

    def are_used() -> bool:
        jobs.append(submit(client, rows_for(workspace, 5, prefix=f"more-{len(jobs)}")))
        ends = asyncio.run(read_offset_ranges(kafka, imports))
        return all(ends[TopicPartition(imports, number)].end > 0 for number in (6, 7, 8))

    wait_until(are_used)
    for name in READERS:  # they have not looked for new partitions meanwhile
        installation.deployment.programs[name].terminate()
        installation.deployment.restart(name)
    installation.deployment.wait_until_ready()
    assert [read_counters(wait_until_completed(client, job_id)) for job_id in jobs] == [
        (5, 0, 0)
    ] * len(jobs)
    for name in READERS:
        numbers = {
            partition.partition
            for partition in installation.read_positions(name)
            if partition.topic == imports
        }
        assert numbers == set(range(9))
    wait_until(installation.has_matching_offsets)
    installation.require_no_duplicates(workspace, installation.read_state(workspace, jobs))


def topic_name(installation: Installation, name: TopicName) -> str:
    return TopicNames(installation.settings.topic_prefix)[name]


def wait_for_refusals(
    installation: Installation,
    refusal: Refusal,
    *,
    expected: Callable[[Installation], set[tuple[str, TopicPartition]]],
) -> RefusedPositions:
    """Waits until exactly the expected positions are refused and readiness names them."""
    partitions = expected(installation)
    assert partitions

    refused: RefusedPositions = {}

    def are_refused() -> bool:
        refused.clear()
        refused.update(installation.find_refused_positions())
        return refused.keys() >= partitions

    with suppress(AssertionError):  # the comparison below has a better message
        wait_until(are_refused, seconds=60)
    assert refused == dict.fromkeys(partitions, refusal)
    for service in {service for service, _ in partitions}:
        require_not_ready(
            installation, service, [partition for name, partition in partitions if name == service]
        )
    url = f"{installation.deployment.base_url}/readyz"
    assert httpx.get(url, timeout=40, trust_env=False).status_code == 503
    return refused


def require_not_ready(
    installation: Installation,
    service: str,
    partitions: Sequence[TopicPartition],
) -> None:
    """Waits until readiness names each partition and the command to run."""

    def is_reported() -> bool:
        answer = installation.get_readiness(service)
        names = [f"{partition.topic}/{partition.partition}" for partition in partitions]
        return answer.status_code == 503 and all(
            name in answer.text for name in [*names, "pinflow recover"]
        )

    wait_until(is_reported)


def import_meanwhile(
    installation: Installation,
    workspace: NewWorkspace,
    client: httpx.Client,
    refused: RefusedPositions,
) -> list[str]:
    """Imports existing and new keys, and requires that no refused partition is consumed.

    Returns the jobs' ids.
    """
    existing = rows_for(workspace, 20, prefix="early")
    rows = [*existing, *rows_for(workspace, 10, prefix="meanwhile")]
    before = {service: installation.read_positions(service) for service in SERVICES_WITH_POSITIONS}
    jobs = [submit_until_accepted(client, rows) for _ in range(2)]
    deadline = time.monotonic() + 5  # two checks of the positions

    def is_over() -> bool:
        assert installation.find_refused_positions() == refused
        for service, partition in refused:
            position = installation.read_positions(service)[partition]
            assert position.next_offset == before[service][partition].next_offset
        return time.monotonic() > deadline

    wait_until(is_over)
    return jobs


def all_positions(installation: Installation) -> set[tuple[str, TopicPartition]]:
    """Returns the positions of consumer groups.

    The publisher's position in outcomes is not included. The publisher itself moves it to the new
    cluster.
    """
    return {
        (service, partition)
        for service in SERVICES_WITH_POSITIONS
        for partition in installation.read_positions(service)
        if service != "publisher" or partition.topic == topic_name(installation, TopicName.IMPORTS)
    }


def positions_beyond_the_end(installation: Installation) -> set[tuple[str, TopicPartition]]:
    """Returns the positions beyond the end of their partition."""
    return {
        (service, partition)
        for service, partition in all_positions(installation)
        if installation.read_positions(service)[partition].next_offset
        > read_offset_range(installation, partition)[1]
    }


def positions_before_the_begin(installation: Installation) -> set[tuple[str, TopicPartition]]:
    """Returns the positions before the beginning of their partition."""
    return {
        (service, partition)
        for service, partition in all_positions(installation)
        if installation.read_positions(service)[partition].next_offset
        < read_offset_range(installation, partition)[0]
    }


def read_offset_range(installation: Installation, partition: TopicPartition) -> tuple[int, int]:
    kafka = installation.settings.kafka_bootstrap_servers
    return asyncio.run(read_offset_ranges(kafka, partition.topic))[partition]
