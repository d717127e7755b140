"""Encrypts the tokens of connections (docs/decisions/0042)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import SecretStr

from shared.contract.errors import PinflowError


class TokenKeyMissing(PinflowError):
    """No key of PINFLOW_PINTEREST_TOKEN_KEYS opens the tokens: an operator has to add it.

    It says nothing about the connection, which works again with the key.
    """


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one connection."""

    access_token: SecretStr
    refresh_token: SecretStr | None


class Vault:
    """Seals and opens tokens with Fernet: AES-128-CBC and HMAC-SHA256.

    The first key seals. All keys open, so that an operator can replace a key.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    @property
    def key_id(self) -> str:
        """The id of the key that seals: the first 8 hex digits of its SHA-256."""
        raise NotImplementedError

    def seal(self, account_id: UUID, tokens: Tokens) -> bytes:
        """Encrypts tokens together with the account's id."""
        raise NotImplementedError

    def open(self, account_id: UUID, secret: bytes) -> Tokens:
        """Decrypts tokens. Raises TokenKeyMissing."""
        raise NotImplementedError
