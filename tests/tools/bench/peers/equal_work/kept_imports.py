"""Keeps accepted imports in Redis until they have settled.

kombu takes a task out of its queue before it notes that it has it. A worker that is killed in
between loses the task. So a task only names its import, and the web process sends tasks again for
imports that are kept for too long.
"""

import time
from uuid import UUID

from redis import Redis

CONTENTS, SENT_AT = "imports", "imports-sent-at"


class KeptImports:
    """A hash of contents by job, and a set of the jobs, sorted by when a task was sent for them."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url)

    def keep(self, job_id: UUID, content: bytes) -> None:
        with self._redis.pipeline() as commands:
            commands.hset(CONTENTS, str(job_id), content)
            commands.zadd(SENT_AT, {str(job_id): time.time()})
            commands.execute()

    def read(self, job_id: UUID) -> bytes | None:
        """Returns the content. Returns None if the import has settled."""
        content: bytes | None = self._redis.hget(CONTENTS, str(job_id))
        return content

    def forget(self, job_id: UUID) -> None:
        with self._redis.pipeline() as commands:
            commands.hdel(CONTENTS, str(job_id))
            commands.zrem(SENT_AT, str(job_id))
            commands.execute()

    def take_overdue(self, seconds: float) -> list[UUID]:
        """Returns the jobs whose last task was sent at least `seconds` ago.

        Notes that one is sent now.
        """
        now = time.time()
        overdue = self._redis.zrangebyscore(SENT_AT, 0, now - seconds)
        if overdue:
            # Only those that have not settled since
            self._redis.zadd(SENT_AT, dict.fromkeys(overdue, now), xx=True)
        return [UUID(job_id.decode()) for job_id in overdue]

    def close(self) -> None:
        self._redis.close()
