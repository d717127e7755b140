"""Files of JSON imports, their names, and the rows that a limited key may see."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.status.uploads.files import build_disposition, require_permitted, write_file
from services.status.uploads.model import UploadedRow, UploadedRows
from shared.contract.errors import ApiError
from shared.contract.events import UploadParameters
from shared.contract.strict_json import parse_json
from shared.spreadsheets.table import WrongCellCount, read_csv
from tests.support.factories import failed_result, submitted_row

JOB = UUID("0199c0de-7a51-7c3e-9a5b-2f4d6e8a0b1c")


def write(*rows: dict[str, Any]) -> bytes:
    uploaded = UploadedRows([UploadedRow(None, row, ()) for row in rows], UploadParameters())
    results = {number: failed_result(number) for number in range(1, len(rows) + 1)}
    return b"".join(write_file(uploaded, results, only_failed=False))


def read_header(data: bytes) -> list[str]:
    return data.decode("utf-8-sig").partition("\r\n")[0].split(",")


@pytest.mark.parametrize(
    ("filename", "name", "encoded"),
    [
        ("a.csv", "a-failed.csv", "a-failed.csv"),
        (None, f"{JOB}-failed.csv", f"{JOB}-failed.csv"),
        ("", f"{JOB}-failed.csv", f"{JOB}-failed.csv"),
        ("../../etc/passwd", "passwd-failed.csv", "passwd-failed.csv"),
        ('a"; x="\r\nSet-Cookie: b.csv', "a__x_Set-Cookie__b-failed.csv", None),
        ("Größe 1.csv", "Gr_e_1-failed.csv", "Gr%C3%B6%C3%9Fe%201-failed.csv"),
        ("...csv", f"{JOB}-failed.csv", f"{JOB}-failed.csv"),
        ("x" * 300 + ".csv", "x" * 100 + "-failed.csv", None),
    ],
)
def test_the_name_of_a_file_is_safe(filename: str | None, name: str, encoded: str | None) -> None:
    disposition = build_disposition(filename, JOB, "failed")
    assert disposition.startswith(f'attachment; filename="{name}"; ')
    assert disposition.isascii()
    assert disposition.isprintable()
    assert encoded is None or disposition.endswith(f"filename*=UTF-8''{encoded}")


def test_fields_of_json_are_columns_in_the_order_of_the_contract() -> None:
    data = write({"note": 1, "title": "a"}, {"board_id": "b", "Note ": True, "other": None})
    assert read_header(data)[:4] == ["board_id", "title", "note", "other"]
    rows = data.decode("utf-8-sig").split("\r\n")[1:3]
    assert [row.split(",")[:4] for row in rows] == [["", "a", "1", ""], ["b", "", "true", ""]]


def test_values_of_json_become_cells() -> None:
    values = {
        "title": 5,
        "related_terms": ["a", "b"],
        "description": {"a": [1]},
        "alt_text": "two\nlines",
        "dominant_color": ["a,b"],
        "link_url": 1.5,
    }
    names = ("board_id", "account_id", "idempotency_key")
    (row,) = read_csv(write(values | dict.fromkeys(names, "x"))).rows
    assert isinstance(row.values, dict)
    assert {name: row.values[name] for name in values} == {
        "title": "5",
        "related_terms": "a, b",
        "description": '{"a":[1]}',
        "alt_text": "two\nlines",
        "dominant_color": '["a,b"]',
        "link_url": "1.5",
    }


def test_a_file_of_hostile_names_can_be_uploaded_again() -> None:
    names = [f"n{number}" for number in range(100_000)]
    spellings = {" " * number + "note": "x" for number in range(500)}
    row = {**spellings, **dict.fromkeys(names, "x"), **submitted_row(), "\ud800": 1, "": 2, " ": 3}
    (read,) = read_csv(write(row)).rows
    assert read.values == submitted_row(idempotency_key=row["idempotency_key"])


def test_a_key_for_all_accounts_may_see_every_row() -> None:
    require_permitted([UploadedRow(1, WrongCellCount("x"), ()), UploadedRow(2, {}, ())], None)


@pytest.mark.parametrize("fields", [{}, {"account_id": 5}, {"account_id": "My shop"}])
def test_a_key_for_some_accounts_sees_only_rows_that_name_one_of_them(
    fields: dict[str, Any],
) -> None:
    own = uuid4()
    mine = UploadedRow(1, {"account_id": f" {str(own).upper()} "}, ())
    require_permitted([mine], {own})
    for row in (fields, {"account_id": str(uuid4())}, WrongCellCount("x")):
        with pytest.raises(ApiError) as error:
            require_permitted([mine, UploadedRow(2, row, ())], {own})
        assert (error.value.code, error.value.status) == ("account_not_permitted", 403)
        assert error.value.message.startswith("Row 2 ")


def test_a_value_that_is_nested_deeply_is_cut() -> None:
    assert b"[[[" in write({"title": parse_json(b"[" * 1015 + b"]" * 1015)})
