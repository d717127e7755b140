"""Makes board ids of 18 digits, as Pinterest's have."""

import secrets
from hashlib import blake2b
from uuid import UUID

FIRST_BOARD_ID = 10**17
BOARD_IDS = 9 * 10**17
"""Among a million random ids two are equal with a probability of one in two million."""


def new_board_id() -> str:
    """Returns a random id, which no other board of any account has."""
    return str(FIRST_BOARD_ID + secrets.randbelow(BOARD_IDS))


def derive_board_id(account_id: UUID, idempotency_key: str) -> str:
    """Derives the id from the account and the key: the same key names the same board."""
    seed = account_id.bytes + idempotency_key.encode()
    number = int.from_bytes(blake2b(seed, digest_size=16).digest()) % BOARD_IDS
    return str(FIRST_BOARD_ID + number)
