"""Lists, refreshes and revokes accounts."""

from typing import Any
from uuid import UUID

from services.access.accounts.health import ConnectionPolicy
from services.access.accounts.repository import AccountRepository
from services.access.connections.service import ConnectionService
from shared.access.model import Principal
from shared.contract.errors import not_found
from shared.postgres.row import Row


class AccountService:
    """The use cases of accounts. Raises ApiError.

    An account that is not on the key's list is handled as if it did not exist.
    """

    def __init__(
        self,
        repository: AccountRepository,
        policy: ConnectionPolicy,
        connections: ConnectionService,
    ) -> None:
        self._repository = repository
        self._connections = connections
        self.policy = policy

    async def list_accounts(self, principal: Principal) -> list[Row]:
        rows = await self._repository.list_accounts(principal.workspace_id)
        return [row for row in rows if principal.permits(row["id"])]

    async def find(self, principal: Principal, account_id: UUID) -> dict[str, Any]:
        """Returns an account with its connection, or None, under `connection`."""
        require_permitted(principal, account_id)
        row = await self._repository.find(principal.workspace_id, account_id)
        if row is None:
            raise not_found("Account")
        return dict(row)

    async def require(self, workspace_id: UUID, account_id: UUID | None) -> None:
        """Raises ApiError (404) unless the workspace exists, and has the account if one is named.

        For operators, who have no key.
        """
        if not await self._repository.workspace_exists(workspace_id):
            raise not_found("Workspace")
        if account_id is not None and not await self._repository.find(workspace_id, account_id):
            raise not_found("Account")

    async def revoke(self, principal: Principal, account_id: UUID) -> None:
        """Revokes an account, and deletes the tokens of a connected one."""
        require_permitted(principal, account_id)
        if not await self._connections.disconnect(principal.workspace_id, account_id):
            raise not_found("Account")


def require_permitted(principal: Principal, account_id: UUID) -> None:
    """Raises ApiError (404) if the account is not on the key's list."""
    if not principal.permits(account_id):
        raise not_found("Account")
