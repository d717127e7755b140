"""Builds and reads the `state` of OAuth: the id of an attempt, encrypted and signed. No I/O."""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.contract.errors import PinflowError

_PURPOSE = b"pinflow oauth state 1"
"""Makes the keys differ from those of tokens: no state is ever a valid secret, or the reverse."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{119}").fullmatch
"""A Fernet token of 16 bytes, without its padding."""
_LAST_BITS = re.compile(r"[AEIMQUYcgkosw048]\Z").search
"""The last characters that carry no bits beyond the last byte. Others decode to the same bytes."""


class InvalidState(PinflowError):
    """The state was not built with one of the keys, or was changed."""


class StateSealer:
    """Seals ids of attempts. The first key seals; all keys open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Takes the keys of tokens, and derives its own."""
        self._fernet = MultiFernet([Fernet(_derive_key(key)) for key in keys])

    def seal(self, attempt_id: UUID) -> str:
        return self._fernet.encrypt(attempt_id.bytes).decode().rstrip("=")

    def open(self, state: str) -> UUID:
        """Returns the id of the attempt. Raises InvalidState."""
        # Fernet itself ignores foreign characters
        if not (_TOKEN(state) and _LAST_BITS(state)):
            raise InvalidState("The state has a wrong form.")
        try:
            return UUID(bytes=self._fernet.decrypt(f"{state}="))
        except (InvalidToken, ValueError):
            raise InvalidState("The state has no valid signature.") from None


def _derive_key(key: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(key, _PURPOSE, sha256))
