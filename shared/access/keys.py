"""API keys: random, shown once, stored as a hash.

A key is checked by looking its whole SHA-256 up, in memory or in a unique index. Neither compares
in constant time, and neither needs to: what a comparison's time could tell is how far the hash of
what was sent agrees with a stored hash, and who wants to steer a hash must already know what is
hashed. No key, no part of one, is ever compared. An unknown and a revoked key take the same way to
the same answer; that a key was tried within the last seconds may show, as it is then answered from
memory.
"""

import secrets
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

KEY_PREFIX = "pf_"
"""So that a key is recognised where it should not stand: in a log, in a repository."""
RANDOM_BYTES = 32
SHOWN_CHARACTERS = 10
"""42 of the 256 random bits are in the prefix that lists show; the rest stands nowhere."""


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"
    DESTRUCTIVE = "destructive"


class NewKey(NamedTuple):
    plain: str
    """Shown once, then forgotten."""
    hashed: bytes
    prefix: str
    """The first characters, so that a person can tell keys apart in a list."""


def new_api_key() -> NewKey:
    plain = f"{KEY_PREFIX}{secrets.token_urlsafe(RANDOM_BYTES)}"
    return NewKey(plain, hash_api_key(plain), plain[:SHOWN_CHARACTERS])


def hash_api_key(plain: str) -> bytes:
    """SHA-256 is enough: 256 random bits can't be guessed, so a slow hash would protect nothing and
    cost each request.
    """
    return sha256(plain.encode()).digest()
