"""The rate meter of an account that is connected to Pinterest. The publisher knows its limits."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.ingest.admission.control import AdmissionControl
from services.ingest.admission.rate_meter import RateMeter
from services.ingest.config import IngestSettings
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode

ACCOUNT, WORKSPACE = uuid4(), uuid4()
PRINCIPAL = Principal(WORKSPACE, uuid4(), frozenset({"read"}))
ANSWER = {
    "account": {"tokens_available": 4.5, "capacity": 10.0, "refill_rate": 1.0},
    "global": {"tokens_available": 80.0, "capacity": 80.0, "refill_rate": 80.0},
}


class Accounts:
    """Stands for the schema `access`: each account exists."""

    def __init__(self, *, connected: bool) -> None:
        self._connected = connected

    async def account_exists(self, _workspace_id: UUID, _account_id: UUID) -> bool:
        return True

    async def was_connected(self, _workspace_id: UUID, _account_id: UUID) -> bool:
        return self._connected


class Publisher:
    """Answers calls with one document, or with an error."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.calls: list[tuple[str, Any]] = []

    async def post(self, path: str, document: Any, *, timeout_seconds: float) -> Any:
        assert timeout_seconds <= 5
        self.calls.append((path, document))
        if isinstance(self._answer, ApiError):
            raise self._answer
        return self._answer


def make_meter(publisher: Publisher, *, connected: bool = True) -> RateMeter:
    accounts: Any = Accounts(connected=connected)
    return RateMeter(AdmissionControl(IngestSettings()), accounts, publisher)


async def test_a_connected_account_has_the_limits_of_pinterest() -> None:
    publisher = Publisher(ANSWER)
    account, system = await make_meter(publisher).read(PRINCIPAL, ACCOUNT)
    assert account == (10.0, 4.5, 1.0)
    assert system == (80.0, 80.0, 80.0)
    sent = {"workspace_id": str(WORKSPACE), "account_id": str(ACCOUNT)}
    assert publisher.calls == [("pinterest/rate-meter", sent)]


@pytest.mark.parametrize(
    "answer",
    [
        ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The publisher service does not answer."),
        {"account": None, "global": None},
    ],
    ids=["it does not answer", "it does not know the account"],
)
async def test_without_the_publisher_the_meter_shows_the_limits_of_rows(answer: Any) -> None:
    quotas = await make_meter(Publisher(answer)).read(PRINCIPAL, ACCOUNT)
    assert quotas == AdmissionControl(IngestSettings()).read_quotas(WORKSPACE)


async def test_the_publisher_is_not_asked_for_other_accounts() -> None:
    publisher = Publisher(ANSWER)
    await make_meter(publisher, connected=False).read(PRINCIPAL, ACCOUNT)
    assert publisher.calls == []
