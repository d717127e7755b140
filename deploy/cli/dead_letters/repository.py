"""Reads from the publisher's and the status service's tables which rows have settled."""

from collections.abc import Collection

from deploy.cli.row_id import RowId
from shared.postgres.database import Database

# Needs both tables. The publisher's table has a failed row before its dead letter is written, but
# usually no created rows. The table of status has the results of all rows, but gets them later
SETTLED = """
    select job_id, row_number
    from unnest(%b::uuid[], %b::int4[]) as candidate(job_id, row_number)
    where exists (
            select from publisher.row_outcomes f
            where f.job_id = candidate.job_id and f.row_number = candidate.row_number
        ) or exists (
            select from status.jobs j
            where j.job_id = candidate.job_id
                and substring(j.settled from candidate.row_number + 1 for 1) = B'1'
        )
"""


class SettledRows:
    """Finds the rows that have settled. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, rows: Collection[RowId]) -> set[RowId]:
        """Returns those of the rows that have settled."""
        candidates = list(rows)
        columns = [[row.job_id for row in candidates], [row.row_number for row in candidates]]
        async with self._database.pipeline() as driver:
            settled = await (await driver.execute(SETTLED, columns)).fetchall()
        return {RowId(*row) for row in settled}
