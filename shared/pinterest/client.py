"""Calls Pinterest's API v5. A call is sent at most once: nothing here retries.

Only the access service and the delivery process import this module: httpx costs 0.1 s of CPU.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from shared.pinterest.model import TokenGrant
from shared.pinterest.settings import PinterestSettings


class PinterestClient:
    """A pool of connections to Pinterest.

    `operation` is the operation's id in Pinterest's API description, for example "boards/list".
    Every method raises NotSent, AnswerLost or Refused (shared/pinterest/failures.py).
    """

    def __init__(self, settings: PinterestSettings) -> None:
        self._settings = settings

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        token: SecretStr,
        params: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Any:
        """Sends one request. Returns the answer's JSON, or None if it has no content (204).

        `path` follows the version in the URL, for example "/boards/123".
        """
        raise NotImplementedError

    async def list_all(
        self,
        operation: str,
        path: str,
        *,
        token: SecretStr,
        params: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Reads all pages of a list."""
        raise NotImplementedError

    async def request_tokens(self, form: Mapping[str, str]) -> TokenGrant:
        """Sends a form to the token endpoint, with the app's id and secret."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes all connections."""
        raise NotImplementedError
