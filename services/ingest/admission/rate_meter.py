"""What PinBridge's rate meter asks for, answered with what limits imports here: rows that are not
settled yet.
"""

from uuid import UUID

from services.ingest.admission.limits import Admission, RowQuota
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import not_found


class RateMeter:
    def __init__(self, admission: Admission, access: AccessRepository) -> None:
        self._admission = admission
        self._access = access

    async def read(self, principal: Principal, account_id: UUID) -> tuple[RowQuota, RowQuota]:
        """The workspace's and the system's.

        Raises ApiError (404) for an account that the key does not see, DatabaseUnavailable.
        """
        if not (
            principal.permits(account_id)
            and await self._access.account_exists(principal.workspace_id, account_id)
        ):
            raise not_found("Account")
        return self._admission.read_quotas(principal.workspace_id)
