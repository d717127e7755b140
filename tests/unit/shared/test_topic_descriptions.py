"""Partitions of a topic, as Kafka's answer describes it."""

from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from shared.kafka.admin import list_partitions

UNKNOWN_TOPIC = 3
NOT_PERMITTED = 29


def describe(error_code: int = 0, partitions: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "topic": "pinflow.imports.v1",
        "error_code": error_code,
        "partitions": [{"partition": number} for number in partitions],
    }


def test_partitions_are_listed_in_order() -> None:
    assert list_partitions(describe(partitions=(2, 0, 1))) == [0, 1, 2]


def test_a_topic_that_does_not_exist_has_no_partitions() -> None:
    assert list_partitions(describe(UNKNOWN_TOPIC)) == []


def test_the_missing_right_to_describe_a_topic_is_named() -> None:
    with pytest.raises(TopicAuthorizationFailedError, match="the right to describe the topic pinf"):
        list_partitions(describe(NOT_PERMITTED))
