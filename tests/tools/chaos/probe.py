"""How long after a fault's end the pipeline does its whole work again."""

import asyncio

from tests.tools.chaos.api_client import ApiClient
from tests.tools.chaos.history import History, RequestOutcome
from tests.tools.chaos.workload import Clients

PROBES = 8
"""Imports at the same time: on most of the partitions, for all members of each group."""
WORKSPACE = 0
"""Whose imports they are."""
MAX_JOBS_POLLED_AGAIN = 60
TIMEOUT_SECONDS = 90.0
RETRY_SECONDS = 0.05


class Probe:
    def __init__(self, clients: Clients, api: ApiClient, history: History) -> None:
        self._clients = clients
        self._api = api
        self._history = history

    async def seconds_until_recovered(self) -> float:
        """Until imports sent from now on have been accepted and have ended; one that was refused is
        sent again.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await asyncio.gather(*(self._one() for _ in range(PROBES)))
        except TimeoutError:
            self._history.unexpected_answers.append(
                f"not recovered within {TIMEOUT_SECONDS:g} s of a fault's end"
            )
        return loop.time() - started

    async def poll_older_jobs(self, before: float) -> None:
        """Polls jobs that were last polled before that time: none may have lost anything."""
        seen = {
            job_id for job_id, polls in self._history.polls.items() if polls[-1].sent_at < before
        } - self._clients.followed
        jobs = [
            one.job_id
            for one in self._history.submissions
            if one.workspace == WORKSPACE and one.job_id in seen
        ]
        for job_id in jobs[-MAX_JOBS_POLLED_AGAIN:]:
            if job_id:
                await self._api.poll_once(job_id)

    async def _one(self) -> None:
        while True:
            submission, documents = self._clients.probe(WORKSPACE)
            await self._api.import_rows(submission, documents)
            if submission.outcome is RequestOutcome.ACCEPTED and submission.job_id:
                await self._api.poll(
                    submission.job_id, seconds=TIMEOUT_SECONDS, every=RETRY_SECONDS
                )
                return
            await asyncio.sleep(RETRY_SECONDS)
