"""The statements that insert the pins of rows."""

from msgspec.structs import replace

from services.publisher.model import PIN_COLUMNS
from services.publisher.rows.pin_inserts import build_generations_insert, build_pins_insert
from services.publisher.rows.snapshot import KeyedRow, key_and_sort_rows, mark_connected
from tests.support.factories import row_accepted


def build_rows() -> list[KeyedRow]:
    return key_and_sort_rows([row_accepted(idempotency_key=key) for key in ("a", "b")])


def test_a_batch_without_connected_accounts_sends_no_further_column() -> None:
    for statement, columns in (
        build_pins_insert(build_rows()),
        build_generations_insert(build_rows(), [1, 2]),
    ):
        assert "delivery" not in statement
        # One more has the jobs, or the numbers of generations
        assert statement.count("%b") == len(columns) == len(PIN_COLUMNS) + 1


def test_one_row_of_a_connected_account_is_enough_to_send_each_pins_delivery() -> None:
    first, second = build_rows()
    rows = [first, replace(second, is_connected=True)]
    statement, columns = build_pins_insert(rows)
    assert "delivery" in statement
    deliveries, jobs = columns[-2:]
    assert deliveries.values == [None, "pinterest"]
    assert jobs.values == [row.row.job_id for row in rows]
    statement, columns = build_generations_insert(rows, [1, 2])
    assert "delivery" in statement
    assert columns[-1].values == [None, "pinterest"]


def test_only_the_rows_of_connected_destinations_are_marked() -> None:
    rows = build_rows()
    assert mark_connected(rows, frozenset()) is rows
    other = row_accepted(idempotency_key="c")
    (unconnected,) = key_and_sort_rows([other])
    marked = mark_connected([*rows, unconnected], {rows[0].destination, rows[1].destination})
    assert [keyed.is_connected for keyed in marked] == [True, True, False]
