"""How much room there is, as the rate meter tells it: what admission would decide by."""

from uuid import uuid4

import pytest

from services.ingest.admission.backlog import STALE_AFTER_SECONDS
from services.ingest.admission.limits import RowQuota
from tests.unit.ingest.test_admission import A, B, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_with_nothing_unsettled_there_is_all_the_room(scene: Scene) -> None:
    assert scene.admission.read_quotas(A) == (RowQuota(1000, 1000, 0), RowQuota(10_000, 10_000, 0))


def test_unsettled_rows_are_taken_off_the_workspaces_room_and_the_systems(scene: Scene) -> None:
    scene.accept(A, 300)
    scene.accept(B, 200)
    own, everything = scene.admission.read_quotas(A)
    assert (own.available, everything.available) == (700, 9500)
    scene.settled = 300
    scene.look()
    own, everything = scene.admission.read_quotas(A)
    assert (own.available, everything.available) == (1000, 9800)


def test_room_that_is_overshot_is_none_and_not_less(scene: Scene) -> None:
    scene.accept(A, 999)
    scene.accept(A, 500)
    assert scene.admission.read_quotas(A)[0].available == 0
    assert scene.refusal(A) is not None


def test_a_workspaces_rows_are_settled_at_their_share_of_the_rate(scene: Scene) -> None:
    scene.accept(A, 300)
    scene.accept(B, 700)
    scene.admission._backlog.settlement_rate = 100.0
    own, everything = scene.admission.read_quotas(A)
    assert own.settlement_rate == pytest.approx(30)
    assert everything.settlement_rate == 100
    assert scene.admission.read_quotas(uuid4())[0].settlement_rate == 100


def test_without_news_from_kafka_nobody_is_refused_and_the_meters_say_so(scene: Scene) -> None:
    scene.accept(A, 1000)
    assert scene.admission.read_quotas(A)[0].available == 0
    scene.now += STALE_AFTER_SECONDS + 1
    assert scene.refusal(A) is None
    assert scene.admission.read_quotas(A)[0].available == 1000
