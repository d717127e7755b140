"""docker-compose.yml with the overlay of three brokers, merged as compose merges them.

The tests use no container engine.
"""

from typing import Any

import pytest
import yaml

from deploy.local.layout import CHECKOUT
from deploy.services import SERVICES, WORKERS
from tests.unit.deploy.test_containers import (
    COMPOSE,
    CONTAINERS,
    affects_durability,
    broker_settings,
)

OVERLAY: dict[str, Any] = yaml.safe_load(
    (CHECKOUT / "deploy/docker/three-brokers.yml").read_text(encoding="utf-8")
)
BROKERS = ("kafka", "kafka-2", "kafka-3")


def merged(first: Any, second: Any) -> Any:
    """Merges mappings and replaces all other values.

    Compose joins lists, but only one of the two files has them.
    """
    if not isinstance(first, dict) or not isinstance(second, dict):
        assert not isinstance(second, list)
        return second
    return {
        **first,
        **{
            name: merged(first[name], value) if name in first else value
            for name, value in second.items()
        },
    }


SERVICES_OF_BOTH: dict[str, Any] = merged(COMPOSE, OVERLAY)["services"]


def read_variables(name: str) -> dict[str, str]:
    return {key: str(value) for key, value in SERVICES_OF_BOTH[name]["environment"].items()}


def test_only_brokers_are_added() -> None:
    assert set(SERVICES_OF_BOTH) - set(CONTAINERS) == {"kafka-2", "kafka-3"}


@pytest.mark.parametrize("name", BROKERS)
def test_a_broker_has_the_settings_of_a_local_stack_with_three(name: str) -> None:
    local, compose = broker_settings(brokers=3), read_variables(name)
    same = set(local) & set(compose)
    assert {name: compose[name].lower() for name in same} == {
        name: local[name].lower() for name in same
    }
    assert {
        setting for setting in local if affects_durability(setting) or "BROKER_" in setting
    } <= set(compose)


def test_brokers_differ_in_id_address_and_volume_and_in_nothing_else() -> None:
    individual = {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS"}
    brokers = [read_variables(name) for name in BROKERS]
    assert {
        frozenset((key, value) for key, value in broker.items() if key not in individual)
        for broker in brokers
    } == {frozenset((key, value) for key, value in brokers[0].items() if key not in individual)}
    assert [broker["KAFKA_ADVERTISED_LISTENERS"] for broker in brokers] == [
        f"PLAINTEXT://{name}:9092" for name in BROKERS
    ]
    assert brokers[0]["KAFKA_CONTROLLER_QUORUM_VOTERS"] == ",".join(
        f"{broker['KAFKA_NODE_ID']}@{name}:9093"
        for broker, name in zip(brokers, BROKERS, strict=True)
    )
    for name in BROKERS[1:]:
        assert {**SERVICES_OF_BOTH[name], "environment": None, "volumes": None} == {
            **SERVICES_OF_BOTH["kafka"],
            "environment": None,
            "volumes": None,
        }
    assert [SERVICES_OF_BOTH[name]["volumes"] for name in BROKERS] == [
        [f"{name}:/var/lib/kafka/data"] for name in BROKERS
    ]
    assert set(BROKERS) <= set(merged(COMPOSE, OVERLAY)["volumes"])


def test_every_client_has_all_brokers_and_topics_are_created_when_all_are_healthy() -> None:
    clients = [name for name, service in SERVICES.items() if service.uses_kafka]
    for name in (*clients, *WORKERS, "topics"):
        assert read_variables(name)["PINFLOW_KAFKA_BOOTSTRAP_SERVERS"] == ",".join(
            f"{broker}:9092" for broker in BROKERS
        )
    assert SERVICES_OF_BOTH["topics"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in BROKERS
    }
