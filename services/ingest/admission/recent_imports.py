"""Remembers which imports this process has sent lately, so that status can tell what is still to
come.
"""

import time
from collections import OrderedDict
from uuid import UUID

RETENTION_SECONDS = 360.0
"""A job id counts as young for 5 minutes (services/status/service.py), and clocks differ."""


class RecentImports:
    """Keeps the ids of imports that stand, or may stand, in Kafka."""

    def __init__(self) -> None:
        self._started_ms = time.time() * 1000
        self._sent: OrderedDict[UUID, float] = OrderedDict()
        """When each was sent, oldest first."""

    def add(self, job_id: UUID) -> None:
        """Notes an import that is about to be sent."""
        now = time.monotonic()
        self._sent[job_id] = now
        while now - next(iter(self._sent.values())) > RETENTION_SECONDS:
            self._sent.popitem(last=False)

    def remove(self, job_id: UUID) -> None:
        """Forgets an import that certainly does not stand."""
        self._sent.pop(job_id, None)

    def may_exist(self, job_id: UUID) -> bool:
        """Tells whether an import with this id may come from this process.

        Of an id that is older than the process it cannot be told: a predecessor may have sent it.
        """
        return job_id in self._sent or job_id.int >> 80 < self._started_ms
