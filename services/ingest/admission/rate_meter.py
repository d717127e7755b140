"""Answers PinBridge's rate meter with the limits of unsettled rows."""

from uuid import UUID

from services.ingest.admission.control import AdmissionControl, RowQuota
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import not_found


class RateMeter:
    """Reads how many rows a key's workspace may still import."""

    def __init__(self, admission: AdmissionControl, access: AccessRepository) -> None:
        self._admission = admission
        self._access = access

    async def read(self, principal: Principal, account_id: UUID) -> tuple[RowQuota, RowQuota]:
        """Returns the quota of the workspace and the quota of the whole system.

        Raises ApiError (404) if the key does not see the account, and DatabaseUnavailable.
        """
        if not (
            principal.permits(account_id)
            and await self._access.account_exists(principal.workspace_id, account_id)
        ):
            raise not_found("Account")
        return self._admission.read_quotas(principal.workspace_id)
