"""Rate limits for invalid API keys. Valid keys are never limited."""

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

MAX_ATTEMPTS = 5
PERIOD_SECONDS = 10.0
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
        access_cache_seconds=5,
        access_failed_tries=MAX_ATTEMPTS,
        access_failed_seconds=PERIOD_SECONDS,
    )
    return Authenticator(keys, settings, clock)


_numbers: Iterator[int] = iter(range(1_000_000))


async def try_invalid_key(
    authenticator: Authenticator, address: str = OFFICE, key: str | None = None
) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        await authenticator.authenticate(key or f"wrong-{next(_numbers)}", address)
    return refusal.value


async def use_up_attempts(authenticator: Authenticator, address: str = OFFICE) -> None:
    codes = [(await try_invalid_key(authenticator, address)).code for _ in range(MAX_ATTEMPTS + 1)]
    assert codes == ["unauthorized"] * MAX_ATTEMPTS + ["too_many_attempts"]


async def test_too_many_invalid_keys_get_429_and_retry_after_is_long_enough(
    authenticator: Authenticator, clock: Clock
) -> None:
    await use_up_attempts(authenticator)
    refusal = await try_invalid_key(authenticator)
    assert (refusal.status, refusal.code) == (429, "too_many_attempts")
    clock.now += int(refusal.headers["Retry-After"])
    assert (await try_invalid_key(authenticator)).status == 401
    assert (await try_invalid_key(authenticator)).status == 429
    clock.now += PERIOD_SECONDS
    await use_up_attempts(authenticator)


async def test_another_address_is_not_limited(authenticator: Authenticator) -> None:
    await use_up_attempts(authenticator)
    assert (await try_invalid_key(authenticator, "203.0.113.8")).status == 401


async def test_a_repeated_invalid_key_is_counted_without_a_database_query(
    authenticator: Authenticator, keys: Keys
) -> None:
    statuses = [
        (await try_invalid_key(authenticator, key="the same")).status
        for _ in range(2 * MAX_ATTEMPTS)
    ]
    assert statuses == [401] * MAX_ATTEMPTS + [429] * MAX_ATTEMPTS
    assert keys.lookups == 1


async def test_a_request_without_a_key_is_not_counted(authenticator: Authenticator) -> None:
    for _ in range(3 * MAX_ATTEMPTS):
        with pytest.raises(ApiError):
            await authenticator.authenticate(None, OFFICE)
    await use_up_attempts(authenticator)


async def test_valid_keys_from_a_limited_address_still_work(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    cached, uncached = keys.add("cached"), keys.add("uncached")
    assert await authenticator.authenticate("cached", OFFICE) == cached
    await use_up_attempts(authenticator)
    assert await authenticator.authenticate("cached", OFFICE) == cached
    assert await authenticator.authenticate("uncached", OFFICE) == uncached
    clock.now += 6  # the cache entry has expired
    await use_up_new_attempts(authenticator)
    assert await authenticator.authenticate("cached", OFFICE) == cached


async def use_up_new_attempts(authenticator: Authenticator) -> None:
    while (await try_invalid_key(authenticator)).status == 401:
        pass


async def test_valid_keys_are_not_counted(authenticator: Authenticator, keys: Keys) -> None:
    for number in range(3 * MAX_ATTEMPTS):
        keys.add(f"good-{number}")
        await authenticator.authenticate(f"good-{number}", OFFICE)
    await use_up_attempts(authenticator)


@pytest.mark.parametrize("is_limited", [False, True], ids=["unlimited address", "limited address"])
async def test_a_hundred_concurrent_requests_with_an_uncached_valid_key_are_accepted(
    authenticator: Authenticator, keys: Keys, monkeypatch: pytest.MonkeyPatch, *, is_limited: bool
) -> None:
    good = keys.add("new")
    if is_limited:
        await use_up_attempts(authenticator)
    before = keys.lookups
    monkeypatch.setattr(authentication, "MAX_WAIT_SECONDS", 60 if is_limited else 0.0)
    assert (
        await asyncio.gather(*(authenticator.authenticate("new", OFFICE) for _ in range(100)))
        == [good] * 100
    )
    assert keys.lookups - before == 1


async def test_an_attempt_without_an_answer_from_the_database_is_not_counted(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.is_down = True
    for number in range(3 * MAX_ATTEMPTS):
        with pytest.raises(DatabaseUnavailable):
            await authenticator.authenticate(f"whatever-{number}", OFFICE)
    keys.is_down = False
    await use_up_attempts(authenticator)


async def test_many_invalid_keys_cause_one_database_query_at_a_time(
    authenticator: Authenticator, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use_up_attempts(authenticator)
    keys.answers.clear()
    before = keys.lookups
    monkeypatch.setattr(authentication, "MAX_WAIT_SECONDS", 0.05)
    refusals = await asyncio.gather(*(try_invalid_key(authenticator) for _ in range(200)))
    keys.answers.set()
    assert {refusal.status for refusal in refusals} == {429}
    assert keys.lookups - before == 1


async def test_concurrent_invalid_keys_are_counted_before_their_lookup(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.answers.clear()
    flood = asyncio.gather(*(try_invalid_key(authenticator) for _ in range(200)))
    await eventually(
        lambda: keys.lookups == MAX_ATTEMPTS + 1
    )  # the allowed attempts, and one that waits for its turn
    keys.answers.set()
    refusals = await flood
    assert sum(refusal.status == 401 for refusal in refusals) == MAX_ATTEMPTS


def test_the_number_of_buckets_is_bounded(clock: Clock) -> None:
    buckets: TokenBuckets[int] = TokenBuckets(1, PERIOD_SECONDS, max_keys=100, clock=clock)
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
