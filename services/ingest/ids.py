"""Job ids and the paths of jobs.

Job ids are UUIDv7: they contain their time, so jobs sort by it. For an id that is only minutes
old, the status service asks ingest whether an import is on its way.
"""

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_job_id(now: datetime) -> UUID:
    """Returns a UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits.

    Python has a function for it only from 3.14.
    """
    milliseconds = (now - _EPOCH) // timedelta(milliseconds=1)
    number = (
        milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    )
    return UUID(int=number)


def build_job_path(job_id: UUID) -> str:
    """Returns the path of an import's job."""
    return f"/v1/pins/imports/{job_id}"
