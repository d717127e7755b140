"""Admission control with given lag samples and a fake clock."""

import asyncio
import math
from uuid import UUID, uuid4

import pytest

from services.ingest.admission import control as admission
from services.ingest.admission.backlog import STALE_AFTER_SECONDS, LagSample
from services.ingest.admission.control import AdmissionControl
from services.ingest.config import IngestSettings
from services.ingest.model import ImportEnd
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable, Overloaded
from tests.support.waiting import eventually

A, B = uuid4(), uuid4()


class Scene:
    """Admission control with limits of 1000 and 10 000 rows, a fake clock and a fake log."""

    def __init__(self) -> None:
        self.now = 100.0
        settings = IngestSettings(max_unsettled_rows_per_workspace=1000, max_unsettled_rows=10_000)
        self.admission = AdmissionControl(settings, lambda: self.now)
        self.end = 0
        self.settled = 0
        self.take_sample()

    def take_sample(self) -> None:
        self.admission.observe(LagSample(self.now, {0: self.end}, {0: self.settled}))

    def accept(self, workspace: UUID, rows: int) -> None:
        with self.admission.reserve(workspace, rows) as reservation:
            self.end += rows
            reservation.import_end = ImportEnd(0, self.end)

    def find_refusal(self, workspace: UUID) -> Overloaded | None:
        try:
            self.admission.require_capacity(workspace)
        except Overloaded as refusal:
            return refusal
        return None


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_workspace_may_import_while_its_unsettled_rows_are_below_the_limit(scene: Scene) -> None:
    scene.accept(A, 999)
    scene.accept(A, 500)
    refusal = scene.find_refusal(A)
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.details["limit"], refusal.details["current"]) == (
        429,
        "too_many_unsettled_rows",
        1000,
        1499,
    )
    assert scene.find_refusal(B) is None
    scene.settled = 999
    scene.take_sample()
    assert scene.find_refusal(A) is None


def test_concurrent_imports_do_not_overshoot_the_limit(scene: Scene) -> None:
    with (
        scene.admission.reserve(A, 500),
        scene.admission.reserve(A, 500),
        pytest.raises(Overloaded),
        scene.admission.reserve(A, 500),
    ):
        raise AssertionError("not reached")


def test_the_system_limit_has_a_reserve_for_workspaces_without_unsettled_rows(
    scene: Scene,
) -> None:
    scene.end = 9_999
    scene.take_sample()
    scene.accept(A, 1)
    refusal = scene.find_refusal(A)
    assert refusal is not None
    assert (refusal.code, refusal.details["limit"], refusal.details["current"]) == (
        "overloaded",
        10_000,
        10_000,
    )
    assert scene.find_refusal(B) is None
    scene.end = 11_000
    scene.take_sample()
    refusal = scene.find_refusal(B)
    assert refusal is not None
    assert (refusal.code, refusal.details["limit"]) == ("overloaded", 11_000)


def test_an_import_that_was_certainly_not_accepted_is_not_counted(scene: Scene) -> None:
    with pytest.raises(BrokerUnavailable), scene.admission.reserve(A, 5000):
        raise BrokerUnavailable("away")
    assert scene.find_refusal(A) is None


@pytest.mark.parametrize(
    "fault", [AcceptanceUnknown("silent"), asyncio.CancelledError()], ids=["silence", "client gone"]
)
async def test_an_import_that_may_have_been_accepted_is_counted_for_a_while(
    scene: Scene, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "IN_DOUBT_SECONDS", 0.05)
    with pytest.raises(type(fault)), scene.admission.reserve(A, 5000):
        raise fault
    assert scene.find_refusal(A) is not None
    await eventually(lambda: scene.find_refusal(A) is None)


def test_without_lag_samples_no_import_is_refused_and_no_rows_are_counted(scene: Scene) -> None:
    scene.accept(A, 1000)
    assert scene.find_refusal(A) is not None
    scene.now += STALE_AFTER_SECONDS + 1
    for _ in range(100):
        scene.accept(A, 500)
    assert scene.find_refusal(A) is None
    assert scene.admission._backlog.count_rows(A) == 1000
    scene.take_sample()
    assert scene.find_refusal(A) is not None


@pytest.mark.parametrize(
    ("rate", "seconds"), [(100_000, 1), (100, 10), (1, 60), (0, 60), (None, 5)]
)
def test_retry_after_is_computed_from_the_settlement_rate_within_bounds(
    scene: Scene, rate: float | None, seconds: int
) -> None:
    scene.accept(A, 1999)
    scene.admission._backlog.settlement_rate = rate
    refusal = scene.find_refusal(A)
    assert refusal is not None
    assert refusal.headers == {"Retry-After": str(seconds)}


def test_a_workspaces_rows_are_settled_at_their_share_of_the_rate(scene: Scene) -> None:
    scene.end = 3000
    scene.take_sample()
    scene.accept(A, 1000)
    scene.admission._backlog.settlement_rate = 1.0
    refusal = scene.find_refusal(A)
    assert refusal is not None
    assert refusal.retry_after == math.ceil(1 * 4000 / 1000)


async def test_a_lag_sample_that_frees_capacity_wakes_a_waiting_import(scene: Scene) -> None:
    scene.accept(A, 1000)
    waiting = asyncio.create_task(
        scene.admission.wait_for_capacity(A, asyncio.get_running_loop().time() + 30)
    )
    await asyncio.sleep(0)
    scene.take_sample()
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.settled = 1000
    scene.take_sample()
    await asyncio.wait_for(waiting, 5)


async def test_waiting_for_capacity_ends_at_the_deadline(scene: Scene) -> None:
    scene.accept(A, 1000)
    with pytest.raises(Overloaded):
        await scene.admission.wait_for_capacity(A, asyncio.get_running_loop().time() + 0.02)
