"""The installed aiokafka has all private attributes and methods that Pinflow uses."""

import inspect
from importlib.metadata import version

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, conn
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.sender import Sender

from shared.kafka import aiokafka_internals, connection


def test_the_installed_aiokafka_is_the_version_that_was_checked() -> None:
    """Before an update, read aiokafka's changelog.

    Then change both versions below, and the version in the docstring of aiokafka_internals.
    """
    assert version("aiokafka").startswith("0.14.")
    assert "0.14.0" in (aiokafka_internals.__doc__ or "")


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (AIOKafkaClient, ["_sync_task", "_conns"]),
        (AIOKafkaConsumer, ["_client", "_fetcher", "_coordinator"]),
        (AIOKafkaProducer, ["_sender", "_closed", "client"]),
        (Sender, ["_sender_task", "sender_task"]),
        (fetcher.Fetcher, ["_fetch_task", "_records"]),
        (GroupCoordinator, ["_coordination_task"]),
        (conn.AIOKafkaConnection, ["_writer"]),
        (
            fetcher.PartitionRecords.__mro__[1],
            ["_tp", "_records", "_value_deserializer", "next_fetch_offset"],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_private_attributes_exist(owner: type, names: list[str]) -> None:
    source = "".join(
        inspect.getsource(base) for base in owner.__mro__ if base.__module__.startswith("aiokafka")
    )
    missing = [
        name for name in names if f"self.{name}" not in source and f"def {name}" not in source
    ]
    assert not missing


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (AIOKafkaClient, "_wait_on_metadata", ["self", "topic"]),
        (fetcher.PartitionRecords.__mro__[1], "_unpack_records", ["self"]),
        (fetcher.PartitionRecords.__mro__[1], "_consumer_record", ["self", "tp", "record"]),
        (conn.AIOKafkaConnection.__mro__[1], "send", ["self", "request", "expect_response"]),
    ],
)
def test_the_private_methods_have_the_expected_parameters(
    owner: type, name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_all_clients_use_the_replaced_classes() -> None:
    assert connection.client_options is not None  # importing it is enough
    assert conn.AIOKafkaConnection is aiokafka_internals._Connection
    assert fetcher.PartitionRecords is aiokafka_internals._FilteredRecords
