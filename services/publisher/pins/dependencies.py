"""The services, limits and settings that the publisher's endpoints use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.publisher.config import PublisherSettings
from services.publisher.pins.bulk_publish import BulkPublishService
from services.publisher.pins.deferral_reader import DeferralReader
from services.publisher.pins.dry_run.service import DryRunService
from services.publisher.pins.lists.service import PinListService
from services.publisher.pins.schedules import ScheduleService
from services.publisher.pins.service import PinService
from shared.http.bodies import BodyReader
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader
from shared.http.write_limit import WriteLimit

_CONCURRENT_BODY_BYTES = 64 * 1024 * 1024
"""Maximum bytes of all concurrent bodies. Half of them are for the first 256 KiB of each body: by
default 512 of the largest bodies."""
_CONCURRENT_BATCH_BYTES = 16 * 1024 * 1024
"""Maximum bytes of all concurrent bodies of POST /v1/pins/batch. Half of them are for the first
256 KiB of each body, half for the rest: by default one of the largest, and many of usual size."""


def build_pin_reader(settings: PublisherSettings, writes: WriteLimit) -> JsonReader:
    """Builds the reader of all request bodies except those of POST /v1/pins/batch."""
    bodies = _build_bodies(settings, settings.pin_body_limit, _CONCURRENT_BODY_BYTES)
    return JsonReader(bodies, writes)


def build_batch_reader(settings: PublisherSettings, writes: WriteLimit) -> JsonReader:
    """Builds the reader of the bodies of POST /v1/pins/batch."""
    bodies = _build_bodies(settings, settings.batch_body_limit, _CONCURRENT_BATCH_BYTES)
    return JsonReader(bodies, writes)


def _build_bodies(settings: PublisherSettings, limit: int, concurrent_bytes: int) -> BodyReader:
    return BodyReader(
        limit_bytes=limit,
        timeout_seconds=settings.body_seconds,
        total_bytes=max(concurrent_bytes, 2 * limit),
    )


@dataclass(frozen=True, slots=True)
class PublisherDependencies:
    """The objects that create_app builds for the endpoints."""

    settings: PublisherSettings
    pins: PinService
    schedules: ScheduleService
    bulk_publish: BulkPublishService
    dry_run: DryRunService
    lists: PinListService
    deferrals: DeferralReader
    reader: JsonReader
    batch_reader: JsonReader
    writes: WriteLimit
    """Limits concurrent writes. The readers acquire it for requests with a body. The endpoints of
    commands without a body acquire it themselves."""


Publisher = Annotated[PublisherDependencies, Depends(typed_dependencies(PublisherDependencies))]
