"""The rate meter reports the limits by which admission control decides."""

from uuid import uuid4

import pytest

from services.ingest.admission.backlog import STALE_AFTER_SECONDS
from services.ingest.admission.control import Quota
from tests.unit.ingest.test_admission import A, B, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_without_unsettled_rows_the_whole_capacity_is_available(scene: Scene) -> None:
    assert scene.admission.read_quotas(A) == (Quota(1000, 1000, 0), Quota(10_000, 10_000, 0))


def test_unsettled_rows_reduce_the_quotas_of_the_workspace_and_the_system(scene: Scene) -> None:
    scene.accept(A, 300)
    scene.accept(B, 200)
    own, total = scene.admission.read_quotas(A)
    assert (own.available, total.available) == (700, 9500)
    scene.settled = 300
    scene.take_sample()
    own, total = scene.admission.read_quotas(A)
    assert (own.available, total.available) == (1000, 9800)


def test_an_overshot_quota_is_zero_and_not_negative(scene: Scene) -> None:
    scene.accept(A, 999)
    scene.accept(A, 500)
    assert scene.admission.read_quotas(A)[0].available == 0
    assert scene.find_refusal(A) is not None


def test_a_workspaces_rows_are_settled_at_their_share_of_the_rate(scene: Scene) -> None:
    scene.accept(A, 300)
    scene.accept(B, 700)
    scene.admission._backlog.settlement_rate = 100.0
    own, total = scene.admission.read_quotas(A)
    assert own.refill_rate == pytest.approx(30)
    assert total.refill_rate == 100
    assert scene.admission.read_quotas(uuid4())[0].refill_rate == 100


def test_without_lag_samples_no_import_is_refused_and_the_quotas_are_full(scene: Scene) -> None:
    scene.accept(A, 1000)
    assert scene.admission.read_quotas(A)[0].available == 0
    scene.now += STALE_AFTER_SECONDS + 1
    assert scene.find_refusal(A) is None
    assert scene.admission.read_quotas(A)[0].available == 1000
