"""Remembers the HTTP imports that this process has sent recently.

The status service asks for them: an import that is in Kafka may not have reached status yet.
"""

import time
from collections import OrderedDict
from datetime import timedelta
from uuid import UUID

from shared.contract.time_ordered_ids import read_milliseconds
from shared.contract.young_jobs import MAX_YOUNG_AGE

RETENTION_SECONDS = (MAX_YOUNG_AGE + timedelta(minutes=1)).total_seconds()
"""Status asks for the ids of young jobs. The extra minute allows for clock skew."""


class RecentImports:
    """The ids of imports that are in Kafka, or may be."""

    def __init__(self) -> None:
        self._started_ms = time.time() * 1000
        self._sent: OrderedDict[UUID, float] = OrderedDict()
        """The time at which each import was sent, oldest first."""

    def add(self, job_id: UUID) -> None:
        """Records an import that is about to be sent."""
        now = time.monotonic()
        self._sent[job_id] = now
        while now - next(iter(self._sent.values())) > RETENTION_SECONDS:
            self._sent.popitem(last=False)

    def remove(self, job_id: UUID) -> None:
        """Forgets an import that Kafka certainly does not have."""
        self._sent.pop(job_id, None)

    def may_exist(self, job_id: UUID) -> bool:
        """Returns whether this process or an earlier one may have sent an import with this id.

        Returns True for every id that is older than this process.
        """
        return job_id in self._sent or read_milliseconds(job_id) < self._started_ms
