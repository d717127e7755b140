"""API keys: random, shown once, stored as a hash."""

import secrets
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

SHOWN_CHARACTERS = 10


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
    plain = f"pf_{secrets.token_urlsafe(32)}"
    return NewKey(plain, hash_api_key(plain), plain[:SHOWN_CHARACTERS])


def hash_api_key(plain: str) -> bytes:
    """SHA-256 is enough: 256 random bits can't be guessed, so a slow hash would protect nothing and cost each request."""
    return sha256(plain.encode()).digest()
