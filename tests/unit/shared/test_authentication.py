"""The cache of API keys: how long a key stays valid, including while the database is down."""

import asyncio
from uuid import uuid4

import pytest

from shared.access import authentication
from shared.access.authentication import Authenticator
from shared.access.keys import Scope, hash_api_key, new_api_key
from shared.access.model import Principal
from shared.contract.errors import ApiError, DatabaseUnavailable
from shared.runtime.settings import ServiceSettings
from tests.support.waiting import eventually


class Keys:
    """A table of API keys that can be unavailable or silent."""

    def __init__(self) -> None:
        self.principals: dict[bytes, Principal] = {}
        self.is_down = False
        self.lookups = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def find_principal(self, key_hash: bytes) -> Principal | None:
        self.lookups += 1
        await self.answers.wait()
        if self.is_down:
            raise DatabaseUnavailable("down")
        return self.principals.get(key_hash)

    def add(self, plain: str) -> Principal:
        principal = Principal(uuid4(), uuid4(), frozenset({Scope.READ}))
        self.principals[hash_api_key(plain)] = principal
        return principal


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    return Authenticator(
        keys, ServiceSettings(access_cache_seconds=5, access_stale_seconds=300), clock
    )


async def read_refusal(authenticator: Authenticator, key: str | None) -> str:
    with pytest.raises(ApiError) as error:
        await authenticator.authenticate(key)
    assert error.value.headers["WWW-Authenticate"].startswith("Bearer")
    return error.value.code


@pytest.mark.parametrize("key", [None, "", "pf_unknown"])
async def test_a_missing_or_unknown_key_is_refused(
    authenticator: Authenticator, key: str | None
) -> None:
    assert await read_refusal(authenticator, key) == "unauthorized"


async def test_a_cached_key_is_not_looked_up_again(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    principal = keys.add("k")
    for _ in range(3):
        assert await authenticator.authenticate("k") == principal
    assert keys.lookups == 1
    clock.now += 5
    await authenticator.authenticate("k")
    assert keys.lookups == 2


async def test_a_cached_key_does_not_wait_for_a_silent_database(
    authenticator: Authenticator, keys: Keys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MAX_WAIT_SECONDS", 0.01)
    principal = keys.add("k")
    await authenticator.authenticate("k")
    clock.now += 5
    keys.answers.clear()
    assert await authenticator.authenticate("k") == principal
    clock.now += 1
    assert await authenticator.authenticate("k") == principal
    assert keys.lookups == 2  # the first lookup still waits; no second one is started
    keys.principals.clear()
    keys.answers.set()

    async def revoked() -> bool:
        try:
            await authenticator.authenticate("k")
        except ApiError:
            return True
        return False

    await eventually(revoked)


async def test_a_revocation_takes_effect_when_the_cache_entry_expires(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    keys.add("k")
    await authenticator.authenticate("k")
    keys.principals.clear()
    await authenticator.authenticate("k")
    clock.now += 5
    assert await read_refusal(authenticator, "k") == "unauthorized"


async def test_a_new_key_is_accepted_although_it_was_refused_before(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await read_refusal(authenticator, "k")
    keys.add("k")
    clock.now += 5
    await authenticator.authenticate("k")


async def test_while_the_database_is_down_a_cached_key_is_accepted_and_another_gets_no_401(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    principal = keys.add("k")
    await authenticator.authenticate("k")
    keys.is_down = True
    clock.now += 200
    assert await authenticator.authenticate("k") == principal
    with pytest.raises(DatabaseUnavailable):
        await authenticator.authenticate("another")
    clock.now += 200
    with pytest.raises(DatabaseUnavailable):
        await authenticator.authenticate("k")


async def test_many_invalid_keys_evict_no_valid_key_from_the_cache(
    authenticator: Authenticator, keys: Keys
) -> None:
    keys.add("k")
    await authenticator.authenticate("k")
    for number in range(11_000):
        with pytest.raises(ApiError):
            await authenticator.authenticate(f"wrong-{number}")
    before = keys.lookups
    await authenticator.authenticate("k")
    assert keys.lookups == before


def test_keys_are_random_and_only_their_hash_is_stored() -> None:
    first, second = new_api_key(), new_api_key()
    assert first.plain != second.plain
    assert first.hashed == hash_api_key(first.plain)
    assert first.plain.encode() not in first.hashed
    assert len(first.prefix) < len(first.plain) / 3


async def test_a_cache_entry_expires_counted_from_the_start_of_its_lookup(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    """Otherwise a key revoked during a slow lookup would stay valid for longer than
    access_cache_seconds.
    """
    keys.add("k")
    keys.answers.clear()
    lookup = asyncio.create_task(authenticator.authenticate("k"))
    await eventually(lambda: keys.lookups == 1)
    clock.now += 4
    keys.answers.set()
    await lookup
    keys.principals.clear()
    clock.now += 1
    assert await read_refusal(authenticator, "k") == "unauthorized"


async def test_a_revoked_key_is_not_accepted_again_while_the_database_is_down(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    keys.add("k")
    await authenticator.authenticate("k")
    keys.principals.clear()
    clock.now += 5
    await read_refusal(authenticator, "k")
    keys.is_down = True
    clock.now += 10
    with pytest.raises(DatabaseUnavailable):
        await authenticator.authenticate("k")
