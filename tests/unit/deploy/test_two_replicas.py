"""docker-compose.yml with the overlay of two replicas, merged as compose merges them.

The tests use no container engine.
"""

from typing import Any

import pytest
import yaml

from deploy.local.layout import CHECKOUT
from deploy.services import CHECKED_SERVICES, SERVICES, WORKERS
from tests.unit.deploy.test_containers import COMPOSE, CONTAINERS
from tests.unit.deploy.test_three_brokers import merged

OVERLAY: dict[str, Any] = yaml.safe_load(
    (CHECKOUT / "deploy/docker/two-replicas.yml").read_text(encoding="utf-8")
)
SERVICES_OF_BOTH: dict[str, Any] = merged(COMPOSE, OVERLAY)["services"]


def test_a_second_replica_of_each_service_is_added_and_nothing_else() -> None:
    added = {f"{name}-2" for name in (*SERVICES, *WORKERS)}
    assert set(SERVICES_OF_BOTH) - set(CONTAINERS) == added


@pytest.mark.parametrize("name", [*SERVICES, *WORKERS])
def test_replicas_differ_in_their_name_and_in_nothing_else(name: str) -> None:
    first, second = SERVICES_OF_BOTH[name], SERVICES_OF_BOTH[f"{name}-2"]
    assert {**second, "environment": None} == {**first, "environment": None}
    assert second["environment"] == {**first["environment"], "PINFLOW_REPLICA": "1"}
    assert first["environment"]["PINFLOW_REPLICA"] == "0"


@pytest.mark.parametrize("name", SERVICES)
def test_the_gateway_and_readiness_have_both_replicas(name: str) -> None:
    both = [f"{name}:8000", f"{name}-2:8000"]
    assert (
        SERVICES_OF_BOTH["gateway"]["environment"][SERVICES[name].upstream_variable].split() == both
    )
    if name in CHECKED_SERVICES:
        assert SERVICES_OF_BOTH["status"]["environment"][SERVICES[name].url_variable] == ",".join(
            f"http://{address}" for address in both
        )


@pytest.mark.parametrize("name", WORKERS)
def test_readiness_has_both_replicas_of_a_worker(name: str) -> None:
    urls = SERVICES_OF_BOTH["status"]["environment"][WORKERS[name].url_variable]
    assert urls == f"http://{name}:8000,http://{name}-2:8000"
