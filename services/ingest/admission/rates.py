"""What PinBridge's rate meter asks for, answered with what limits imports here: rows that are not
settled yet.
"""

from uuid import UUID

from services.ingest.admission.limits import Admission, Meter
from shared.access.model import Principal
from shared.access.repository import AccessRepository
from shared.contract.errors import not_found


class Rates:
    def __init__(self, admission: Admission, access: AccessRepository) -> None:
        self._admission = admission
        self._access = access

    async def of_account(self, who: Principal, account_id: UUID) -> tuple[Meter, Meter]:
        """The workspace's and the system's.

        Raises ApiError (404) for an account that the key does not see, DatabaseUnavailable.
        """
        if not (
            who.permits(account_id)
            and await self._access.account_exists(who.workspace_id, account_id)
        ):
            raise not_found("Account")
        return self._admission.meters(who.workspace_id)
