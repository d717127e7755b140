"""Generates board ids of 18 digits, like those of Pinterest."""

import secrets
from hashlib import blake2b
from uuid import UUID

FIRST_BOARD_ID = 10**17
BOARD_IDS = 9 * 10**17
"""Number of possible ids.

Among a million random ids, the probability that two are equal is one in two million.
"""


def new_board_id() -> str:
    """Returns a random id. It is practically unique across all accounts."""
    return str(FIRST_BOARD_ID + secrets.randbelow(BOARD_IDS))


def derive_board_id(account_id: UUID, idempotency_key: str) -> str:
    """Derives the id from account and key, so the same key always gives the same board."""
    seed = account_id.bytes + idempotency_key.encode()
    number = int.from_bytes(blake2b(seed, digest_size=16).digest()) % BOARD_IDS
    return str(FIRST_BOARD_ID + number)
