"""Counts of the results of a batch, and the JSON that is stored. No I/O."""

import orjson
from msgspec.structs import asdict, replace

from services.status.folding import group_by_job, tally
from services.status.results.encoding import read_stored
from shared.contract.events import Fault, FieldDifference, RowResult, RowStatus
from shared.contract.wire import encode
from shared.http.row_results import hide_values
from tests.support.factories import created_result, failed_result, import_accepted, rows_settled

NOTHING_SETTLED = "0" * 501


def existing(number: int) -> RowResult:
    return RowResult(row_number=number, status=RowStatus.EXISTING, payload_matches=True)


def test_the_first_result_of_a_row_counts_and_settled_rows_are_ignored() -> None:
    settled = tally(NOTHING_SETTLED, [created_result(500)]).settled
    added = tally(
        settled,
        [failed_result(3), created_result(3), failed_result(500), created_result(1), existing(2)],
    )
    assert (added.created, added.existing, added.failed, added.first_row) == (1, 1, 1, 1)
    assert [number for number, bit in enumerate(added.settled) if bit == "1"] == [1, 2, 3, 500]
    assert [
        (result["row_number"], result["status"]) for result in orjson.loads(added.results or "")
    ] == [
        (1, "created"),
        (2, "existing"),
        (3, "failed"),
    ]


def test_a_repetition_adds_nothing() -> None:
    settled = tally(NOTHING_SETTLED, [created_result(1)]).settled
    assert tally(settled, [failed_result(1)]) == (0, 0, 0, settled, None, None, None)
    assert tally(settled, []) == (0, 0, 0, settled, None, None, None)


def test_results_of_one_job_are_collected() -> None:
    job = import_accepted(total_rows=2)
    grouped = group_by_job(
        [rows_settled(job, created_result(1)), job, rows_settled(job, failed_result(2))]
    )
    assert [result.row_number for result in grouped.results[job.job_id]] == [1, 2]


def test_stored_results_are_returned_in_row_order_with_nulls() -> None:
    fault = replace(failed_result(2), errors=[Fault(code="c", message="m")])
    late, early = (
        tally(NOTHING_SETTLED, [fault]).results,
        tally(NOTHING_SETTLED, [existing(1)]).results,
    )
    first, second = orjson.loads(encode(read_stored([late or "", early or ""])))
    assert first == {**asdict(existing(1)), "errors": []}
    assert second == {
        **asdict(fault),
        "errors": [{"code": "c", "field": None, "message": "m", "value": None}],
    }
    assert read_stored(None) == []


def test_the_values_of_differing_fields_can_be_hidden() -> None:
    difference = FieldDifference(field="title", stored="Lamp", sent="Lamps")
    differing = replace(existing(1), payload_matches=False, differing_fields=[difference])
    folded = tally(NOTHING_SETTLED, [differing, created_result(2), existing(3)]).results
    results = encode(read_stored([folded or ""]))
    shown, hidden = orjson.loads(results), orjson.loads(hide_values(results))
    assert shown[0]["differing_fields"] == [{"field": "title", "stored": "Lamp", "sent": "Lamps"}]
    assert hidden[0]["differing_fields"] == [{"field": "title", "stored": None, "sent": None}]
    assert hidden[1:] == shown[1:]
    assert [result["differing_fields"] for result in shown[1:]] == [None, None]


def test_nothing_but_the_account_is_compared_with_the_pin_of_another_account() -> None:
    """Otherwise a limited key could try values until the name of their field is gone."""
    names = ["account_id", "board_id", "title"]
    differences = [FieldDifference(field=name, stored="a", sent="b") for name in names]
    differing = replace(existing(1), payload_matches=False, differing_fields=differences)
    folded = tally(NOTHING_SETTLED, [differing]).results
    (hidden,) = orjson.loads(hide_values(encode(read_stored([folded or ""]))))
    assert hidden["differing_fields"] == [{"field": "account_id", "stored": None, "sent": None}]
