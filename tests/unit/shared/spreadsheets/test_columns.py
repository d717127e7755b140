"""Names of columns: spellings, aliases, slips, and columns that are missing or appear twice."""

from typing import Any

import pytest

from shared.spreadsheets.table import read_csv
from tests.unit.shared.spreadsheets.files import HEADER, ROW, VALUES, find_refusal


def read_values(text: str, **options: Any) -> list[Any]:
    return [row.values for row in read_csv(text.encode(), **options).rows]


@pytest.mark.parametrize(
    "header",
    [
        " Account_ID ,BOARD_id,Title,idempotency_KEY,image_url",
        "Account ID,board-id,TITLE,Idempotency Key,Image URL",
        "accountId,boardId,title,idempotencyKey,imageUrl",
        "\ufeffaccount_id,board\u200b_id,ti\u00adtle,\u2060idempotency_key,image_url\u00a0",
    ],
)
def test_names_match_in_any_spelling_and_without_invisible_characters(header: str) -> None:
    table = read_csv(f"{header}\n{ROW}".encode())
    assert [row.values for row in table.rows] == [VALUES]
    assert table.warnings == []


def test_the_columns_of_pinterests_template_are_read_with_one_warning() -> None:
    text = (
        "Title,Media URL,Pinterest board,Thumbnail,Description,Link,Publish date,Keywords,"
        "Idempotency key\n"
        't,https://x.example/a.jpg,Living room,,d,https://x.example,2031-01-01,"a,b",k\n'
    )
    table = read_csv(text.encode(), optional=["account_id"])
    assert [row.values for row in table.rows] == [
        {
            "title": "t",
            "image_url": "https://x.example/a.jpg",
            "board_id": "Living room",
            "description": "d",
            "link_url": "https://x.example",
            "run_at": "2031-01-01",
            "related_terms": "a,b",
            "idempotency_key": "k",
        }
    ]
    assert [(warning.code, warning.message) for warning in table.warnings] == [
        (
            "column_aliases",
            (
                "Columns with other names: Media URL was read as image_url, Pinterest board was "
                "read as board_id, Thumbnail was read as cover_image_url, Link was read as "
                "link_url, Publish date was read as run_at, Keywords was read as related_terms."
            ),
        )
    ]


def test_pinterests_template_as_it_is_says_what_it_lacks() -> None:
    refused = find_refusal(b"Title,Media URL,Pinterest board,Link\nt,https://x.example,b,\n")
    assert (refused.code, refused.details["missing"]) == (
        "missing_columns",
        ["account_id", "idempotency_key"],
    )
    assert refused.message == (
        "Missing columns: account_id, idempotency_key. The first line must name the columns. It "
        "names: Title, Media URL, Pinterest board, Link. account_id is not needed if the import "
        "names one account for all rows, with the parameter account or pinflow import --account. "
        "idempotency_key is a value of your own that is different for each pin, for example the "
        "article number: add such a column."
    )


@pytest.mark.parametrize("name", ["run_ta", "runat_", "rum_at", "Publish dates"])
def test_a_column_that_is_nearly_a_known_one_refuses_the_file(name: str) -> None:
    data = f"{HEADER},{name}\n{ROW},2031-01-01T00:00:00Z\n".encode()
    for keep_unknown in (False, True):
        if name == "runat_":
            assert read_csv(data, keep_unknown=keep_unknown).rows
            continue
        refused = find_refusal(data, keep_unknown=keep_unknown)
        assert refused.code == "unknown_columns"
        assert refused.details == {"columns": [{"column": name, "suggestion": "run_at"}]}
        assert refused.message == (
            f"Columns that seem misspelled: {name} (did you mean run_at?). "
            "Correct their names, or remove the columns."
        )


def test_a_misspelled_required_column_is_refused_together_with_missing_ones() -> None:
    refused = find_refusal(b"account_id,bord_id,titel,image_url\na,b,t,u\n")
    assert refused.code == "unknown_columns"
    assert refused.details == {
        "columns": [
            {"column": "bord_id", "suggestion": "board_id"},
            {"column": "titel", "suggestion": "title"},
        ]
    }
    assert refused.message.endswith("Also missing: idempotency_key.")


def test_other_unknown_columns_are_ignored_with_a_warning() -> None:
    table = read_csv(f"{HEADER},Price,  In \u200bstock ,\n{ROW},5,yes,\n".encode())
    assert [row.values for row in table.rows] == [VALUES]
    assert [(warning.code, warning.message) for warning in table.warnings] == [
        (
            "unknown_columns",
            (
                "Unknown columns: Price, In stock. Their cells are ignored. With strict=true, a "
                "value in them makes its row fail. Correct or remove these columns."
            ),
        )
    ]
    (warning,) = read_csv(f"{HEADER},Price\n{ROW},5\n".encode(), keep_unknown=True).warnings
    assert warning.message == (
        "Unknown columns: Price. A value in them makes its row fail, because of strict=true. "
        "Correct or remove these columns."
    )


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (f"{HEADER},Title", "title (as title and Title)"),
        (f"{HEADER},link,link_url", "link_url (as link and link_url)"),
        (f"{HEADER},Link,Link", "link_url"),
        (f"{HEADER},Media URL", "image_url (as image_url and Media URL)"),
        (f"{HEADER},Price,price", "price"),
    ],
)
def test_a_field_that_appears_twice_is_refused(header: str, named: str) -> None:
    refused = find_refusal(f"{header}\n".encode())
    assert (refused.code, refused.message) == (
        "duplicate_columns",
        f"Columns that appear more than once: {named}. Keep one of each.",
    )
    assert refused.details == {"found": header.split(",")}


def test_a_date_and_a_time_in_two_columns_are_told_to_become_one() -> None:
    refused = find_refusal(f"{HEADER},Post date,Post time\n{ROW},2031-01-01,10:00\n".encode())
    assert "put both into a column run_at" in refused.message


def test_a_duplicate_column_is_named_among_many_columns() -> None:
    refused = find_refusal(",".join([f"c{number}" for number in range(1000)] + ["c7"]).encode())
    assert (refused.code, refused.message) == (
        "duplicate_columns",
        "Columns that appear more than once: c7. Keep one of each.",
    )


def test_control_characters_of_a_header_do_not_reach_a_message() -> None:
    refused = find_refusal(b"a\x1b[2Jb,c\x07\nx,y\n")
    assert refused.details["found"] == ["a[2Jb", "c"]
