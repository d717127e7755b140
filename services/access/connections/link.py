"""Builds what connections need only if PINFLOW_PINTEREST_MODE is not off."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from pydantic import SecretStr

from services.access.config import AccessSettings
from services.access.connections.refresher import TokenEndpoint, TokenRefresher
from services.access.connections.repository import ConnectionRepository
from services.access.connections.rules import DAY_SECONDS
from services.access.connections.vault import Vault


class PinterestApi(TokenEndpoint, Protocol):
    """Pinterest as connections use it: PinterestClient, or a model of it in tests."""

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        token: SecretStr,
        params: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Any: ...

    async def list_all(
        self,
        operation: str,
        path: str,
        *,
        token: SecretStr,
        params: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PinterestLink:
    """Pinterest's API, the keys of the tokens, and what refreshes them."""

    api: PinterestApi
    vault: Vault
    refresher: TokenRefresher

    @classmethod
    def build(
        cls, settings: AccessSettings, repository: ConnectionRepository, api: PinterestApi
    ) -> Self:
        vault = Vault(settings.token_keys)
        refresher = TokenRefresher(
            repository,
            api,
            vault,
            timeout_seconds=settings.pinterest_timeout_seconds,
            ahead_seconds=settings.pinterest_refresh_days * DAY_SECONDS,
        )
        return cls(api, vault, refresher)

    async def close(self) -> None:
        """Waits for refreshes that are in flight, then closes the connections to Pinterest."""
        await self.refresher.close()
        await self.api.close()
