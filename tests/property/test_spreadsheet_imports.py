"""A CSV as each program writes it creates a pin with exactly the row's text.

The file goes through ingest, publisher and status to the API's answers, on the real Postgres.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.parsing.policy import ImportParameters
from shared.contract.events import JobStatus
from shared.postgres.database import Database
from tests.property.conftest import Run
from tests.property.documents import FIELDS, file_keys
from tests.property.pipeline import Pipeline
from tests.property.profiles import examples
from tests.property.publisher.service import BASE_URL
from tests.property.spreadsheets import (
    EXCEL_ANSI,
    PROGRAMS,
    Program,
    importable_tables,
    select,
    western_texts,
)

ENCODINGS = ["cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp932", "gb18030"]

Table = tuple[list[str], list[dict[str, str]]]
names_of_accounts = file_keys.map(str.strip)


class Importer:
    """Imports tables, each into a workspace of its own, and compares the pins with the rows.

    The rows name the account by `account`, its name, or by its id if that is None. Then they name
    the boards by their ids, otherwise by their names.
    """

    def __init__(self, pool: Database, run: Run, account: str | None) -> None:
        self._pipeline = Pipeline(pool)
        self._run = run
        self._account = account

    def check(self, program: Program, table: Table, *, encoding: str | None = None) -> None:
        """Imports a table as the program writes it. `encoding` is the one that is declared."""
        names, rows = table[0], _drop_repeated_keys(select(*table))
        texts_of_boards = list(dict.fromkeys(row["board_id"] for row in rows))
        board_ids = {
            text: text if self._account is None else f"70000000000000000{number}"
            for number, text in enumerate(texts_of_boards)
        }
        workspace = self._run(
            self._pipeline.create_workspace(
                self._account or "Test", {board_ids[text]: text for text in texts_of_boards}
            )
        )
        for row in rows:
            row["account_id"] = self._account or str(workspace.account_id)
        job = self._run(
            self._pipeline.import_csv(
                workspace.id, program.write(names, rows), ImportParameters(encoding=encoding)
            )
        )
        results = orjson.loads(job["results"])
        assert [result["errors"] for result in results] == [[]] * len(rows)
        assert (job["status"], job["created_rows"]) == (JobStatus.COMPLETED, len(rows))
        for row, result in zip(rows, results, strict=True):
            row |= {
                "account_id": str(workspace.account_id),
                "board_id": board_ids[row["board_id"]],
            }
            assert self._read_content(workspace.id, result) == _build_content(
                row, is_scheduled=result["schedule_id"] is not None
            )

    def _read_content(self, workspace_id: UUID, result: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a pin's fields, as far as the API's answer has them."""
        publisher = self._pipeline.publisher
        if schedule_id := result["schedule_id"]:
            answer = self._run(publisher.get_schedule(workspace_id, UUID(schedule_id)))
            content: dict[str, Any] = answer["payload"]
            return content | {"run_at": datetime.fromisoformat(answer["run_at"])}
        answer = self._run(publisher.get_pin(workspace_id, UUID(result["pin_id"])))
        answer["account_id"] = answer["pinterest_account_id"]
        if asset_id := answer["asset_id"]:
            assert answer.pop("image_url") == f"{BASE_URL}/v1/assets/{asset_id}"
        return {name: value for name in FIELDS if (value := answer.get(name)) is not None}


def _drop_repeated_keys(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return list({row["idempotency_key"]: row for row in rows}.values())


def _build_content(row: Mapping[str, str], *, is_scheduled: bool) -> dict[str, Any]:
    """Builds the fields of a row's pin from the texts of its cells."""
    content: dict[str, Any] = dict(row)
    if color := row.get("dominant_color"):
        content["dominant_color"] = f"#{color.removeprefix('#').upper()}"
    if terms := [term.strip() for term in content.pop("related_terms", "").split(",")]:
        content |= {"related_terms": kept} if (kept := [*filter(None, terms)]) else {}
    if text := content.pop("run_at", None):
        run_at = datetime.fromisoformat(text).astimezone(UTC)
        assert is_scheduled is (run_at > datetime.now(UTC))
        content |= {"run_at": run_at} if is_scheduled else {}
    return content


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
@examples(3)
@given(table=importable_tables, account=st.none() | names_of_accounts)
def test_every_row_of_each_programs_file_becomes_a_pin_with_its_text(
    pool: Database, run: Run, program: Program, table: Table, account: str | None
) -> None:
    Importer(pool, run, account).check(program, table)


@examples(12)
@given(
    st.sampled_from(EXCEL_ANSI), importable_tables, st.lists(western_texts, min_size=4, max_size=4)
)
def test_western_text_of_excels_ansi_file_becomes_a_pin_with_its_text(
    pool: Database, run: Run, program: Program, table: Table, titles: list[str]
) -> None:
    ascii_rows = _keep_encodable(table, "ascii")[1]
    rows = [row | {"title": title} for row, title in zip(ascii_rows, titles, strict=False)]
    Importer(pool, run, None).check(program, (table[0], rows))


@examples(12)
@given(
    st.sampled_from(EXCEL_ANSI),
    importable_tables,
    st.sampled_from(ENCODINGS),
    st.none() | names_of_accounts,
)
def test_text_in_a_declared_encoding_becomes_a_pin_with_its_text(
    pool: Database, run: Run, program: Program, table: Table, encoding: str, account: str | None
) -> None:
    kept = None if account is None else _keep(account, encoding)
    Importer(pool, run, kept).check(
        program._replace(encoding=encoding), _keep_encodable(table, encoding), encoding=encoding
    )


def _keep_encodable(table: Table, encoding: str) -> Table:
    rows = [{name: _keep(text, encoding) for name, text in row.items()} for row in table[1]]
    return table[0], rows


def _keep(text: str, encoding: str) -> str:
    return text.encode(encoding, errors="replace").decode(encoding)
