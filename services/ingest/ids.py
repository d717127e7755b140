"""Job ids and the paths of jobs.

Job ids are UUIDv7: they contain their time, so jobs sort by it. For an id that is only minutes
old, the status service asks ingest whether an import is on its way.
"""

import secrets
from datetime import datetime
from uuid import UUID

from shared.contract.time_ordered_ids import (
    CHOSEN_BITS,
    build_time_ordered_id,
    count_milliseconds,
)


def new_job_id(now: datetime) -> UUID:
    """Returns a UUIDv7 with this time and random bits."""
    return build_time_ordered_id(count_milliseconds(now), secrets.randbits(CHOSEN_BITS))


def build_job_path(job_id: UUID) -> str:
    """Returns the path of an import's job."""
    return f"/v1/pins/imports/{job_id}"
