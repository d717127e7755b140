"""Deletes pins on Pinterest: for a user who asks for it, and for an undone import."""

from typing import Protocol
from uuid import UUID

import structlog

from services.publisher.delivery.model import AccessToken, AccountLease
from services.publisher.delivery.ports import CallBudget, TokenSource
from services.publisher.delivery.removing.rules import (
    Removal,
    RemovalDecision,
    RemoveAgain,
    decide_removal,
)
from services.publisher.delivery.tokens.failures import AccountGivenUp
from shared.contract.errors import ApiError, PinflowError, Unavailable
from shared.pinterest.client import PinterestClient
from shared.pinterest.failures import Cause, NotSent, PinterestFailure, Refused
from shared.pinterest.model import Category

log = structlog.get_logger()

OPERATION = "pins/delete"


class RemovingStore(Protocol):
    """Stores removals."""

    async def find_due(self, account_id: UUID) -> Removal | None:
        """Returns the account's removal that is due first."""
        ...

    async def record(self, removal: Removal, decision: RemovalDecision) -> None:
        """Records what follows a try. A removal that is settled by now stays as it is."""
        ...


class FailurePauses(Protocol):
    """Pauses an account or the app after a failure that concerns it (attempts/call_failures.py)."""

    async def pause(self, account_id: UUID, failure: Refused | NotSent | AccountGivenUp) -> None:
        """Pauses nothing if the failure concerns the pin alone."""
        ...


class Remover:
    """Deletes one pin in each turn. A part of a turn."""

    def __init__(
        self,
        store: RemovingStore,
        client: PinterestClient,
        tokens: TokenSource,
        budget: CallBudget,
        failures: FailurePauses,
    ) -> None:
        self._store = store
        self._client = client
        self._tokens = tokens
        self._budget = budget
        self._failures = failures

    async def run(self, lease: AccountLease) -> bool:
        """Deletes one pin. Returns False if none is due. Raises Postponed.

        Two holders at once do no harm: the second is told that the pin is gone.
        """
        removal = await self._store.find_due(lease.account_id)
        if removal is None:
            return False
        failure = await self._delete(removal)
        decision = decide_removal(removal, failure)
        await self._store.record(removal, decision)
        if isinstance(decision, RemoveAgain) and isinstance(
            failure, Refused | NotSent | AccountGivenUp
        ):
            await self._failures.pause(removal.account_id, failure)
        log.info(
            "delivery_removal_tried",
            pin_id=str(removal.pin_id),
            workspace_id=str(removal.workspace_id),
            decision=type(decision).__name__,
            failure=failure and type(failure).__name__,
        )
        return True

    async def _delete(self, removal: Removal) -> PinflowError | None:
        """Returns the failure, if any. A refused token is refreshed once."""
        try:
            token = await self._tokens.get(removal.account_id)
            try:
                await self._call(removal, token)
            except Refused as refusal:
                if refusal.cause is not Cause.TOKEN:
                    raise
                token = await self._tokens.refresh(removal.account_id, token.version)
                await self._call(removal, token)
        except (PinterestFailure, ApiError, Unavailable) as failure:
            return failure
        return None

    async def _call(self, removal: Removal, token: AccessToken) -> None:
        await self._budget.require(removal.account_id, Category.WRITE)
        await self._client.call(
            OPERATION, "DELETE", f"/pins/{removal.pinterest_pin_id}", token=token.value
        )
