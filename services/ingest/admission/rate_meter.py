"""Answers PinBridge's rate meter with the limits of unsettled rows, or with those at Pinterest."""

from typing import Any
from uuid import UUID

from services.ingest.admission.control import AdmissionControl, Quota
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import ApiError, not_found
from shared.http.internal_calls import InternalCalls
from shared.http.rate_meter import RateMeterNode

TIMEOUT_SECONDS = 2.0
"""The meter is only a hint: after this time it shows the limits of rows instead."""


class RateMeter:
    """Reads how many rows a key's workspace may still import.

    For an account that was ever connected to Pinterest: how many pins may be sent there.
    """

    def __init__(
        self, admission: AdmissionControl, access: AccessRepository, publisher: InternalCalls
    ) -> None:
        self._admission = admission
        self._access = access
        self._publisher = publisher

    async def read(self, principal: Principal, account_id: UUID) -> tuple[Quota, Quota]:
        """Returns the quota of the account or workspace, and that of the whole installation.

        Raises ApiError (404) if the key does not see the account, and DatabaseUnavailable.
        """
        if not (
            principal.permits(account_id)
            and await self._access.account_exists(principal.workspace_id, account_id)
        ):
            raise not_found("Account")
        if await self._access.was_connected(principal.workspace_id, account_id):
            quotas = await self._read_pinterest(principal.workspace_id, account_id)
            if quotas is not None:
                return quotas
        return self._admission.read_quotas(principal.workspace_id)

    async def _read_pinterest(
        self, workspace_id: UUID, account_id: UUID
    ) -> tuple[Quota, Quota] | None:
        """Asks the publisher, which keeps the budgets. Returns None if it does not answer."""
        document = {"workspace_id": str(workspace_id), "account_id": str(account_id)}
        try:
            answer = await self._publisher.post(
                "pinterest/rate-meter", document, timeout_seconds=TIMEOUT_SECONDS
            )
        except ApiError:
            return None
        if answer["account"] is None or answer["global"] is None:
            return None
        return _build_quota(answer["account"]), _build_quota(answer["global"])


def _build_quota(document: Any) -> Quota:
    """Builds a quota of pins. It has the same figures as one of rows."""
    node = RateMeterNode.model_validate(document)
    return Quota(node.capacity, node.tokens_available, node.refill_rate)
