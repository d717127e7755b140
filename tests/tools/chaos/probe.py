"""Measures how long the pipeline needs to recover after a fault."""

import asyncio

from tests.tools.chaos.api_client import ApiClient
from tests.tools.chaos.history import History, RequestOutcome
from tests.tools.chaos.workload import Clients

PROBES = 8
"""The number of concurrent imports. They reach most partitions and all members of each group."""
WORKSPACE = 0
"""The index of the workspace that sends the probes."""
MAX_JOBS_POLLED_AGAIN = 60
TIMEOUT_SECONDS = 90.0
RETRY_SECONDS = 0.05


class Probe:
    """Sends small imports until they work again."""

    def __init__(self, clients: Clients, api: ApiClient, history: History) -> None:
        self._clients = clients
        self._api = api
        self._history = history

    async def seconds_until_recovered(self) -> float:
        """Sends imports and returns the seconds until all are accepted and have ended.

        An import that is not accepted is replaced with a new one.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await asyncio.gather(*(self._import_until_it_ends() for _ in range(PROBES)))
        except TimeoutError:
            self._history.unexpected_answers.append(
                f"the pipeline did not recover within {TIMEOUT_SECONDS:g} s after a fault"
            )
        return loop.time() - started

    async def poll_older_jobs(self, before: float) -> None:
        """Polls jobs that were last polled earlier than `before`. The checker compares answers."""
        older = {
            job_id for job_id, polls in self._history.polls.items() if polls[-1].sent_at < before
        } - self._clients.followed
        jobs = [
            submission.job_id
            for submission in self._history.submissions
            if submission.workspace == WORKSPACE and submission.job_id in older
        ]
        for job_id in jobs[-MAX_JOBS_POLLED_AGAIN:]:
            if job_id:
                await self._api.poll_once(job_id)

    async def _import_until_it_ends(self) -> None:
        while True:
            submission, documents = self._clients.probe(WORKSPACE)
            await self._api.import_rows(submission, documents)
            if submission.outcome is RequestOutcome.ACCEPTED and submission.job_id:
                await self._api.poll(
                    submission.job_id, seconds=TIMEOUT_SECONDS, every=RETRY_SECONDS
                )
                return
            await asyncio.sleep(RETRY_SECONDS)
