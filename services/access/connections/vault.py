"""Encrypts the tokens of connections (docs/decisions/0042)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from shared.contract.errors import PinflowError

KEY_ID_DIGITS = 8


class TokenKeyMissing(PinflowError):
    """The configured keys do not open the tokens of an account: an operator has to add the key.

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
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self.key_ids = tuple(derive_key_id(key) for key in keys)

    @property
    def key_id(self) -> str:
        """The id of the key that seals."""
        return self.key_ids[0]

    def seal(self, account_id: UUID, tokens: Tokens) -> bytes:
        """Encrypts tokens together with the account's id."""
        refresh_token = tokens.refresh_token
        document = {
            "account_id": str(account_id),
            "access_token": tokens.access_token.get_secret_value(),
            "refresh_token": refresh_token and refresh_token.get_secret_value(),
        }
        return self._fernet.encrypt(orjson.dumps(document))

    def open(self, account_id: UUID, secret: bytes) -> Tokens:
        """Decrypts tokens. Raises TokenKeyMissing, also for tokens of another account."""
        try:
            document = orjson.loads(self._fernet.decrypt(secret))
        except InvalidToken:
            raise TokenKeyMissing(
                f"No key of PINFLOW_PINTEREST_TOKEN_KEYS opens the tokens of account {account_id}. "
                "Add the key that encrypted them."
            ) from None
        if document["account_id"] != str(account_id):
            raise TokenKeyMissing(
                f"The tokens that are stored for account {account_id} belong to another account. "
                "Restore the table access.tokens, or connect the account again."
            )
        refresh_token = document["refresh_token"]
        return Tokens(
            SecretStr(document["access_token"]), refresh_token and SecretStr(refresh_token)
        )


def derive_key_id(key: bytes) -> str:
    """Returns the first hex digits of the key's SHA-256, by which a stored row names its key."""
    return hashlib.sha256(key).hexdigest()[:KEY_ID_DIGITS]
