"""Says what would become of an import's rows. Writes nothing."""

from collections.abc import Sequence

from services.publisher.rows.repository import RowRepository
from shared.access.repository import AccessRepository
from shared.contract.events import RowAccepted, RowResult


class RowChecker:
    def __init__(self, store: RowRepository, access: AccessRepository) -> None:
        self._store = store
        self._access = access

    async def check(self, rows: Sequence[RowAccepted]) -> list[RowResult]:
        raise NotImplementedError
