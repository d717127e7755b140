"""API keys: random, shown once, stored as a hash.

A key is checked by a lookup of its SHA-256 hash, in a cache or in a unique index. The lookup does
not run in constant time, and need not. Its time could reveal only how many leading bytes of two
hashes are equal, and nobody can choose a key with a given hash. Keys themselves are never compared.

Unknown and revoked keys take the same path to the same answer. Timing may reveal that a key was
tried within the last seconds, because its answer then comes from the cache.
"""

import secrets
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

KEY_PREFIX = "pf_"
"""Makes a leaked key recognizable, for example in a log or in a Git repository."""
RANDOM_BYTES = 32
SHOWN_CHARACTERS = 10
"""Length of the prefix in lists. It has 42 of the 256 random bits; the others are not stored."""


class Scope(StrEnum):
    """A right of an API key.

    - `read`: read everything in the workspace.
    - `write`: create and change.
    - `destructive`: delete and revoke.
    """

    READ = "read"
    WRITE = "write"
    DESTRUCTIVE = "destructive"


class NewKey(NamedTuple):
    plain: str
    """The key itself. It is shown once and not stored."""
    hashed: bytes
    prefix: str
    """The first characters, by which a person recognizes the key in a list."""


def new_api_key() -> NewKey:
    plain = f"{KEY_PREFIX}{secrets.token_urlsafe(RANDOM_BYTES)}"
    return NewKey(plain, hash_api_key(plain), plain[:SHOWN_CHARACTERS])


def hash_api_key(plain: str) -> bytes:
    """Computes the SHA-256 of a key.

    A slow hash is not needed: 256 random bits can't be guessed, and each request would pay for it.
    """
    return sha256(plain.encode()).digest()
