"""docker-compose.yml with the overlay of three brokers, merged as compose merges them.

No engine is asked.
"""

from typing import Any

import pytest
import yaml

from deploy.local.layout import CHECKOUT
from deploy.services import SERVICES
from tests.unit.deploy.test_containers import (
    COMPOSE,
    CONTAINERS,
    broker_settings,
    decides_what_is_lost,
)

OVERLAY: dict[str, Any] = yaml.safe_load(
    (CHECKOUT / "deploy/docker/three-brokers.yml").read_text(encoding="utf-8")
)
BROKERS = ("kafka", "kafka-2", "kafka-3")


def merged(first: Any, second: Any) -> Any:
    """Mappings are merged, everything else is replaced; lists, which compose would join, are in one
    of the two only.
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


WHOLE: dict[str, Any] = merged(COMPOSE, OVERLAY)["services"]


def variables_of(name: str) -> dict[str, str]:
    return {key: str(value) for key, value in WHOLE[name]["environment"].items()}


def test_only_brokers_are_added() -> None:
    assert set(WHOLE) - set(CONTAINERS) == {"kafka-2", "kafka-3"}


@pytest.mark.parametrize("name", BROKERS)
def test_a_broker_is_set_up_as_one_of_the_local_stacks_three(name: str) -> None:
    local, compose = broker_settings(brokers=3), variables_of(name)
    same = set(local) & set(compose)
    assert {one: compose[one].lower() for one in same} == {one: local[one].lower() for one in same}
    assert {one for one in local if decides_what_is_lost(one) or "BROKER_" in one} <= set(compose)


def test_brokers_differ_in_id_address_and_volume_and_in_nothing_else() -> None:
    own = {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS"}
    every = [variables_of(name) for name in BROKERS]
    assert {
        frozenset((key, value) for key, value in one.items() if key not in own) for one in every
    } == {frozenset((key, value) for key, value in every[0].items() if key not in own)}
    assert [one["KAFKA_ADVERTISED_LISTENERS"] for one in every] == [
        f"PLAINTEXT://{name}:9092" for name in BROKERS
    ]
    assert every[0]["KAFKA_CONTROLLER_QUORUM_VOTERS"] == ",".join(
        f"{one['KAFKA_NODE_ID']}@{name}:9093" for one, name in zip(every, BROKERS, strict=True)
    )
    for name in BROKERS[1:]:
        assert {**WHOLE[name], "environment": None, "volumes": None} == {
            **WHOLE["kafka"],
            "environment": None,
            "volumes": None,
        }
    assert [WHOLE[name]["volumes"] for name in BROKERS] == [
        [f"{name}:/var/lib/kafka/data"] for name in BROKERS
    ]
    assert set(BROKERS) <= set(merged(COMPOSE, OVERLAY)["volumes"])


def test_every_client_knows_all_brokers_and_topics_are_made_when_all_are_there() -> None:
    clients = [name for name, service in SERVICES.items() if service.uses_kafka]
    for name in (*clients, "topics"):
        assert variables_of(name)["PINFLOW_KAFKA_BOOTSTRAP_SERVERS"] == ",".join(
            f"{broker}:9092" for broker in BROKERS
        )
    assert WHOLE["topics"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in BROKERS
    }
