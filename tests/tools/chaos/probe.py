"""How long after a fault's end the pipeline does its whole work again."""

import asyncio

from tests.tools.chaos.asking import Asker
from tests.tools.chaos.history import History, Told
from tests.tools.chaos.workload import Clients

PROBES = 8
"""Imports at the same time: on most of the partitions, for all members of each group."""
WORKSPACE = 0
"""Whose imports they are."""
LOOKED_BACK_AT = 60
PATIENCE_SECONDS = 90.0
RETRY_SECONDS = 0.05


class Probe:
    def __init__(self, clients: Clients, asks: Asker, history: History) -> None:
        self._clients = clients
        self._asks = asks
        self._history = history

    async def seconds_until_recovered(self) -> float:
        """Until imports sent from now on have been accepted and have ended; one that was refused is
        sent again.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*(self._one() for _ in range(PROBES)))
        except TimeoutError:
            self._history.surprises.append(
                f"not recovered within {PATIENCE_SECONDS:g} s of a fault's end"
            )
        return loop.time() - started

    async def look_back(self, before: float) -> None:
        """Polls jobs that were last polled before that time: none may have lost anything."""
        seen = {
            job_id for job_id, polls in self._history.polls.items() if polls[-1].asked < before
        } - self._clients.followed
        jobs = [
            one.job_id
            for one in self._history.submissions
            if one.workspace == WORKSPACE and one.job_id in seen
        ]
        for job_id in jobs[-LOOKED_BACK_AT:]:
            if job_id:
                await self._asks.look(job_id)

    async def _one(self) -> None:
        while True:
            submission, documents = self._clients.probe(WORKSPACE)
            await self._asks.import_rows(submission, documents)
            if submission.told is Told.DONE and submission.job_id:
                await self._asks.poll(
                    submission.job_id, seconds=PATIENCE_SECONDS, every=RETRY_SECONDS
                )
                return
            await asyncio.sleep(RETRY_SECONDS)
