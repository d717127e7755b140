"""Who tries keys that are not good has to wait; who has a good one never does."""

import asyncio
from collections.abc import Iterator

import pytest

from shared.access import authentication
from shared.access.authentication import Authenticator
from shared.access.network import find_network
from shared.contract.errors import ApiError, DatabaseUnavailable
from shared.runtime.limits.token_buckets import TokenBuckets
from shared.runtime.settings import ServiceSettings
from tests.support.waiting import eventually
from tests.unit.shared.test_authentication import Clock, Keys

MOST = 5
WINDOW = 10.0
OFFICE = "203.0.113.7"


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    settings = ServiceSettings(
        access_cache_seconds=5, access_failed_tries=MOST, access_failed_seconds=WINDOW
    )
    return Authenticator(keys, settings, clock)


_numbers: Iterator[int] = iter(range(1_000_000))


async def wrong(
    authenticator: Authenticator, address: str = OFFICE, key: str | None = None
) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        await authenticator.authenticate(key or f"wrong-{next(_numbers)}", address)
    return refusal.value


async def spend(authenticator: Authenticator, address: str = OFFICE) -> None:
    codes = [(await wrong(authenticator, address)).code for _ in range(MOST + 1)]
    assert codes == ["unauthorized"] * MOST + ["too_many_attempts"]


async def test_too_many_invalid_keys_get_429_and_retry_after_is_long_enough(
    authenticator: Authenticator, clock: Clock
) -> None:
    await spend(authenticator)
    refusal = await wrong(authenticator)
    assert (refusal.status, refusal.code) == (429, "too_many_attempts")
    clock.now += int(refusal.headers["Retry-After"])
    assert (await wrong(authenticator)).status == 401
    assert (await wrong(authenticator)).status == 429
    clock.now += WINDOW
    await spend(authenticator)


async def test_another_address_is_not_limited(authenticator: Authenticator) -> None:
    await spend(authenticator)
    assert (await wrong(authenticator, "203.0.113.8")).status == 401


async def test_a_repeated_invalid_key_is_counted_without_a_database_query(
    authenticator: Authenticator, keys: Keys
) -> None:
    statuses = [(await wrong(authenticator, key="the same")).status for _ in range(2 * MOST)]
    assert statuses == [401] * MOST + [429] * MOST
    assert keys.asked == 1


async def test_a_request_without_a_key_is_not_counted(authenticator: Authenticator) -> None:
    for _ in range(3 * MOST):
        with pytest.raises(ApiError):
            await authenticator.authenticate(None, OFFICE)
    await spend(authenticator)


async def test_valid_keys_from_a_limited_address_still_work(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    known, new = keys.add("known"), keys.add("new")
    assert await authenticator.authenticate("known", OFFICE) == known
    await spend(authenticator)
    assert await authenticator.authenticate("known", OFFICE) == known
    assert await authenticator.authenticate("new", OFFICE) == new
    clock.now += 6  # no longer fresh
    await spend_again(authenticator)
    assert await authenticator.authenticate("known", OFFICE) == known


async def spend_again(authenticator: Authenticator) -> None:
    while (await wrong(authenticator)).status == 401:
        pass


async def test_valid_keys_are_not_counted(authenticator: Authenticator, keys: Keys) -> None:
    for number in range(3 * MOST):
        keys.add(f"good-{number}")
        await authenticator.authenticate(f"good-{number}", OFFICE)
    await spend(authenticator)


@pytest.mark.parametrize(
    "spent", [False, True], ids=["fresh address", "address that has spent its tries"]
)
async def test_a_hundred_concurrent_requests_with_an_uncached_valid_key_are_accepted(
    authenticator: Authenticator, keys: Keys, monkeypatch: pytest.MonkeyPatch, *, spent: bool
) -> None:
    good = keys.add("new")
    if spent:
        await spend(authenticator)
    before = keys.asked
    monkeypatch.setattr(authentication, "MAX_WAIT_SECONDS", 60 if spent else 0.0)
    assert (
        await asyncio.gather(*(authenticator.authenticate("new", OFFICE) for _ in range(100)))
        == [good] * 100
    )
    assert keys.asked - before == 1


async def test_an_attempt_without_an_answer_from_the_database_is_not_counted(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.away = True
    for number in range(3 * MOST):
        with pytest.raises(DatabaseUnavailable):
            await authenticator.authenticate(f"whatever-{number}", OFFICE)
    keys.away = False
    await spend(authenticator)


async def test_many_invalid_keys_cause_one_database_query_at_a_time(
    authenticator: Authenticator, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spend(authenticator)
    keys.answers.clear()
    before = keys.asked
    monkeypatch.setattr(authentication, "MAX_WAIT_SECONDS", 0.05)
    refusals = await asyncio.gather(*(wrong(authenticator) for _ in range(200)))
    keys.answers.set()
    assert {refusal.status for refusal in refusals} == {429}
    assert keys.asked - before == 1


async def test_concurrent_invalid_keys_are_counted_before_their_lookup(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.answers.clear()
    flood = asyncio.gather(*(wrong(authenticator) for _ in range(200)))
    await eventually(lambda: keys.asked == MOST + 1)  # those on credit, and one whose turn it is
    keys.answers.set()
    refusals = await flood
    assert sum(refusal.status == 401 for refusal in refusals) == MOST


def test_the_number_of_buckets_is_bounded(clock: Clock) -> None:
    buckets: TokenBuckets[int] = TokenBuckets(1, WINDOW, max_keys=100, clock=clock)
    for key in range(1000):
        buckets.try_acquire(key)
    assert len(buckets._full_at) == 100
    assert buckets.seconds_until_token(999)
    assert not buckets.seconds_until_token(0)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("", ""),
        ("x" * 1000, "x" * 64),
    ],
)
def test_addresses_of_one_network_are_counted_together(address: str, name: str) -> None:
    assert find_network(address) == name
