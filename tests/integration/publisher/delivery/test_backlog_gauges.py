"""Checks what the metrics count as queued and as deferred."""

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.publisher.delivery import backlog_gauges
from services.publisher.delivery.backlog_gauges import BacklogGauges
from tests.support.delivery.process import Account, Delivery

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEFER = (
    "update publisher.pins set deferral_code = 'media_unreachable', "
    "deliver_after = clock_timestamp() + %(seconds)s * interval '1 second', "
    "created_at = created_at - interval '2 hours' where pin_id = %(pin_id)s"
)


async def measure(delivery: Delivery) -> None:
    await BacklogGauges(delivery.database, "simulated").measure()


def count(state: str) -> float | None:
    return REGISTRY.get_sample_value("pinflow_delivery_pins", {"state": state})


def find_oldest(state: str) -> float:
    return REGISTRY.get_sample_value("pinflow_delivery_oldest_seconds", {"state": state}) or 0.0


async def test_a_pin_that_is_deferred_by_itself_is_neither_queued_nor_late(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    await delivery.execute(DEFER, pin_id=pin_id, seconds=3600)
    await measure(delivery)
    assert (count("queued"), count("deferred")) == (0, 1)
    assert find_oldest("queued") == 0
    assert find_oldest("deferred") >= 7200


async def test_the_other_pins_of_its_account_stay_queued(
    delivery: Delivery, account: Account
) -> None:
    (deferred, *_others) = await delivery.queue_many(account, 3)
    await delivery.execute(DEFER, pin_id=deferred, seconds=3600)
    await measure(delivery)
    assert (count("queued"), count("deferred")) == (2, 1)
    assert find_oldest("queued") < 3600


async def test_a_pin_is_queued_again_when_its_deferral_has_ended(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    await delivery.execute(DEFER, pin_id=pin_id, seconds=-1)
    await measure(delivery)
    assert (count("queued"), count("deferred")) == (1, 0)


def list_nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from list_nodes(child)


async def test_queued_pins_are_counted_from_an_index_alone(
    delivery: Delivery, account: Account
) -> None:
    await delivery.queue_many(account, 500)
    # Otherwise Postgres reads so small a table as a whole
    await delivery.execute("set enable_seqscan = off; set enable_bitmapscan = off")
    (row,) = await delivery.execute(
        f"explain (format json) {backlog_gauges._MEASURE}", mode="simulated"
    )
    nodes = list(list_nodes(row["QUERY PLAN"][0]["Plan"]))
    scans = {node.get("Index Name"): node["Node Type"] for node in nodes}
    assert scans["pins_queue"] == "Index Only Scan"
    assert "pins_deferred" in scans
