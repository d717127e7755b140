"""Names what the publisher's endpoints use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.publisher.config import PublisherSettings
from services.publisher.pins.batch import BatchService
from services.publisher.pins.dry_run.service import DryRunService
from services.publisher.pins.lists.service import PinListService
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.service import PinService
from shared.http.admission import ConcurrentWrites
from shared.http.bodies import Bodies
from shared.http.dependencies import provided
from shared.http.json_reader import JsonReader

_CONCURRENT_BODY_BYTES = 64 * 1024 * 1024
"""As many bodies at their limit as there may be requests at once."""
_CONCURRENT_BATCH_BYTES = 16 * 1024 * 1024
"""Two of the longest batches, and many more of usual ones."""


def build_pin_reader(settings: PublisherSettings, writes: ConcurrentWrites) -> JsonReader:
    """Makes the reader of all requests but batches."""
    bodies = _build_bodies(settings, settings.pin_body_limit, _CONCURRENT_BODY_BYTES)
    return JsonReader(bodies, writes)


def build_batch_reader(settings: PublisherSettings, writes: ConcurrentWrites) -> JsonReader:
    bodies = _build_bodies(settings, settings.batch_body_limit, _CONCURRENT_BATCH_BYTES)
    return JsonReader(bodies, writes)


def _build_bodies(settings: PublisherSettings, limit: int, concurrent_bytes: int) -> Bodies:
    return Bodies(
        limit_bytes=limit,
        seconds=settings.body_seconds,
        at_once_bytes=max(concurrent_bytes, 2 * limit),
    )


@dataclass(frozen=True, slots=True)
class PublisherDependencies:
    """Holds what create_app made for the endpoints."""

    settings: PublisherSettings
    pins: PinService
    schedules: ScheduleService
    batches: BatchService
    dry_run: DryRunService
    lists: PinListService
    reader: JsonReader
    batch_reader: JsonReader
    writes: ConcurrentWrites
    """Admits commands without a body."""


Publisher = Annotated[PublisherDependencies, Depends(provided(PublisherDependencies))]
