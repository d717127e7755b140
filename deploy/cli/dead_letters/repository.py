"""Reads which rows have settled from the publisher's and the status service's tables."""

from collections.abc import Collection

from deploy.cli.row_id import RowId
from shared.postgres.database import Database

# Both: the publisher records a failure before its letter is written, but not what it created;
# status hears of either, later
SETTLED = """
    select job_id, row_number from unnest(%b::uuid[], %b::int4[]) as asked(job_id, row_number)
    where exists (
            select from publisher.row_outcomes f
            where f.job_id = asked.job_id and f.row_number = asked.row_number
        ) or exists (
            select from status.jobs j
            where j.job_id = asked.job_id
                and substring(j.settled from asked.row_number + 1 for 1) = B'1'
        )
"""


class SettledRows:
    """Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settled(self, rows: Collection[RowId]) -> set[RowId]:
        asked = list(rows)
        columns = [[row.job_id for row in asked], [row.row_number for row in asked]]
        async with self._database.pipeline() as driver:
            found = await (await driver.execute(SETTLED, columns)).fetchall()
        return {RowId(*row) for row in found}
