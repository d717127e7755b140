"""Postgres is away when the outcome of a request has to be written."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from deploy.local.ports import choose
from services.publisher.delivery.attempts.repository import SettlementRepository
from services.publisher.delivery.creating import creator
from tests.support import ports
from tests.support.delivery.process import Account, Delivery
from tests.support.infrastructure import with_role
from tests.support.waiting import eventually
from tests.tools.chaos.network import Network, Proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def proxy(network: Network, database_url: str) -> Proxy:
    """Returns a proxy in front of Postgres."""
    port = urlsplit(database_url).port
    assert port is not None
    return network.proxy(port, choose({"proxy": ports.PROXIES})["proxy"])


def through(proxy: Proxy, database_url: str) -> SecretStr:
    parts = urlsplit(with_role(database_url, "pinflow_publisher"))
    address = f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"
    return SecretStr(urlunsplit(parts._replace(netloc=address)))


@pytest.mark.parametrize("is_back_in_time", [True, False])
async def test_a_pin_whose_outcome_could_not_be_written_at_once_is_published_once(
    delivery: Delivery,
    account: Account,
    network: Network,
    proxy: Proxy,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_back_in_time: bool,
) -> None:
    """Invariant: at most once. The outcome is written later, or the pin is confirmed."""
    tries: list[str] = []
    publish = SettlementRepository.publish

    async def count(self: Any, begun: Any, pinterest_pin_id: str, limits: Any) -> bool:
        tries.append(pinterest_pin_id)
        return await publish(self, begun, pinterest_pin_id, limits)

    monkeypatch.setattr(SettlementRepository, "publish", count)
    monkeypatch.setattr(creator, "SETTLE_PAUSE_SECONDS", 0.5 if is_back_in_time else 0.01)
    delivery.simulator.set_faults("slow", seconds=2, operation="pins/create", count=1)
    pin_id = await delivery.queue(account)

    async def is_made() -> bool:
        return len(delivery.list_made(account)) == 1

    async def is_published() -> bool:
        return bool((await delivery.find_pin(pin_id))["state"] == "published")

    async with delivery.running(
        database_url=through(proxy, database_url), pinterest_timeout_seconds=10
    ) as process:
        await process.run_until(is_made)
        network.do(proxy.cut())
        await eventually(lambda: len(tries) == (2 if is_back_in_time else creator.SETTLE_TRIES))
        if not is_back_in_time:
            await eventually(lambda: not process.worker._turns)
        assert (await delivery.find_pin(pin_id))["state"] == "publishing"
        network.do(proxy.mend())
        if is_back_in_time:
            await eventually(is_published)
    if not is_back_in_time:
        async with delivery.running() as other:
            await delivery.pass_deadlines()
            await other.run_until(is_published)
    (made,) = delivery.list_made(account)
    assert (await delivery.find_pin(pin_id))["pinterest_pin_id"] == made["id"]
    (attempt,) = await delivery.find_attempts(pin_id)
    assert attempt["outcome"] == ("created" if is_back_in_time else "found")
    assert await delivery.find_events(pin_id) == ["published"]
