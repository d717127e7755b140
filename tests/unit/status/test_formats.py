"""The format of a page of results, chosen by the header Accept."""

import orjson
import pytest

from services.status.results.formats import ResultFormat, choose_format, write_page
from shared.contract.errors import ApiError
from shared.contract.wire import encode
from shared.http.row_results import decode_results
from tests.support.factories import created_result, failed_result


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], ResultFormat.JSON),
        ([""], ResultFormat.JSON),
        (["*/*"], ResultFormat.JSON),
        (["application/*"], ResultFormat.JSON),
        (["text/*"], ResultFormat.CSV),
        (["text/csv"], ResultFormat.CSV),
        (["TEXT/CSV; charset=utf-8"], ResultFormat.CSV),
        (["application/x-ndjson"], ResultFormat.NDJSON),
        (["text/csv;q=0.5, application/x-ndjson"], ResultFormat.NDJSON),
        (["text/csv;q=0.5", "application/json;q=0.4"], ResultFormat.CSV),
        (["application/json;q=0, */*"], ResultFormat.CSV),
        # A browser
        (["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], ResultFormat.JSON),
        (["text/csv;q=high, application/json;q=0.1"], ResultFormat.JSON),
    ],
    ids=str,
)
def test_the_format_with_the_highest_quality_is_chosen(
    accept: list[str], expected: ResultFormat
) -> None:
    assert choose_format(accept) is expected


@pytest.mark.parametrize("accept", ["application/xml", "text/html", "*/*;q=0", "csv", ";q=1"])
def test_a_format_that_does_not_exist_is_refused(accept: str) -> None:
    with pytest.raises(ApiError) as error:
        choose_format([accept])
    assert (error.value.code, error.value.status) == ("not_acceptable", 406)
    assert "text/csv" in error.value.message


def test_each_format_has_every_result_of_the_page() -> None:
    results = decode_results(encode([created_result(1), failed_result(2)]))
    assert write_page(results, ResultFormat.CSV).count(b"\r\n") == 3
    assert write_page(results, ResultFormat.NDJSON).count(b"\n") == 2
    assert len(orjson.loads(write_page(results, ResultFormat.JSON))) == 2
    for format_ in (ResultFormat.CSV, ResultFormat.NDJSON):
        assert write_page([], format_).count(b"\n") == (1 if format_ is ResultFormat.CSV else 0)
