"""Parsing time and memory grow linearly with the size of a document, whatever it contains."""

import gc
import json
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.parsing.rows import require_rows
from shared.contract.errors import ApiError
from shared.contract.strict_json import parse_json
from shared.contract.time_zones import load_zone
from shared.spreadsheets.table import read_csv
from tests.property.conftest import Run
from tests.property.documents import FIELDS
from tests.property.ingest.test_uploads import CONTENT_TYPE, build_request
from tests.property.profiles import examples
from tests.support.factories import submitted_row
from tests.support.imports import validate
from tests.support.uploads import read_upload

SMALL_BYTES = 100_000
"""Bytes of the smaller document. Quadratic code takes 16 times as long for 4 times the size."""
SIZE_FACTOR = 4
MAX_GROWTH = 9
NOISE_SECONDS = 0.05
"""If the larger document is parsed in less time, nothing more is measured. Quadratic code would
take minutes for 400 kB, even with only a nanosecond for each pair of bytes.
"""

MAX_PARAMETER_SECONDS = 0.25
"""Maximum CPU time for a small hostile text. Usually it takes some milliseconds."""

Feed = Callable[[bytes], object]


def check_growth(feed: Feed, document: Callable[[int], bytes]) -> None:
    """Fails if the time grows faster than the size. `document` takes the approximate size."""
    large = measure_cpu_seconds(feed, document(SIZE_FACTOR * SMALL_BYTES))
    if large > NOISE_SECONDS:
        small = min(measure_cpu_seconds(feed, document(SMALL_BYTES)) for _ in range(3))
        large = min(large, measure_cpu_seconds(feed, document(SIZE_FACTOR * SMALL_BYTES)))
        assert large < MAX_GROWTH * small + NOISE_SECONDS, f"{small:.3f} s became {large:.3f} s"


def measure_cpu_seconds(feed: Feed, data: bytes) -> float:
    """Returns the CPU time of `feed`, without other processes and without the garbage collector.

    The collector would traverse all objects of the test run.
    """
    gc.disable()
    try:
        started = time.process_time()
        feed(data)
        return time.process_time() - started
    finally:
        gc.enable()


def feed_json(data: bytes) -> None:
    try:
        rows = require_rows(parse_json(data))
    except ApiError:
        return
    validate(rows)
    validate(rows, strict=True)


def feed_csv(data: bytes) -> None:
    try:
        rows = [row.values for row in read_csv(data).rows]
    except ApiError:
        return
    validate(rows)
    validate(rows, strict=True)


HEADER = b"account_id,board_id,title,idempotency_key\n"
_csv_tokens = [
    b",",
    b";",
    b"\t",
    b'"',
    b"\r",
    b"\n",
    b" ",
    b"x",
    b"\xff",
    b"\0",
    "ä".encode(),
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
]
_json_tokens = [
    b"[",
    b"{",
    b"]",
    b"}",
    b'"',
    b"\\",
    b",",
    b":",
    b"9",
    b"-",
    b".",
    b"e",
    b" ",
    b"\xff",
    b"x",
    b"\\ud800",
    b"\\n",
    b'"a":1,',
    b"[],",
    b"{},",
]


def units(tokens: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(tokens), min_size=1, max_size=6).map(b"".join)


def repeated(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


@examples(25)
@given(
    st.sampled_from([b"", HEADER, HEADER[:-1] + b',"', HEADER + b'a,b,"']),
    units(_csv_tokens),
    st.sampled_from([b"", b"\n", b'"']),
)
@example(HEADER, b'"', b"")
@example(b"", b'"\n', b"")
@example(b"", b'","', b"")
@example(HEADER, b"\r", b"")
@example(b"", b" ", b"")
def test_parsing_time_of_a_csv_is_linear_in_its_size(
    before: bytes, unit: bytes, after: bytes
) -> None:
    check_growth(feed_csv, lambda size: before + repeated(unit, size) + after)


@examples(25)
@given(
    st.sampled_from([b"", b"[", b'[{"title":"', b'[{"a":', b"[{"]),
    units(_json_tokens),
    st.sampled_from([b"", b'"}]', b"]", b"}]"]),
)
@example(b"[", b"9", b"]")
@example(b'[{"title":"', b"\\ud800", b'"}]')
@example(b"[{", b'"a":1,', b'"b":1}]')
@example(b"[", b"{},", b"{}]")
def test_parsing_time_of_a_json_document_is_linear_in_its_size(
    before: bytes, unit: bytes, after: bytes
) -> None:
    check_growth(feed_json, lambda size: before + repeated(unit, size) + after)


_text_units = st.text(
    st.sampled_from(list(" ,#/:.@%?&[]-+T0aZé\u00a0\ud800\0\\\"'")), min_size=1, max_size=5
)


@examples(25)
@given(
    st.sampled_from(FIELDS),
    st.sampled_from(["", "https://", "https://x/", "2026-", "#"]),
    _text_units,
)
@example("related_terms", "", ",")
@example("related_terms", "", "a,")
@example("run_at", "2026-", " ")
@example("link_url", "https://x/", "../")
@example("link_url", "https://", "@")
@example("link_url", "https://", "é.")
@example("account_id", "", " -")
def test_validation_time_of_a_row_is_linear_in_its_size(field: str, before: str, unit: str) -> None:
    def document(size: int) -> bytes:
        return json.dumps([submitted_row(**{field: before + unit * (size // len(unit))})]).encode()

    check_growth(feed_json, document)


@examples(30)
@given(
    st.sampled_from(
        [b"", b'--cut\r\ncontent-disposition: form-data; name="file"; filename="', b"--cut\r\n"]
    ),
    units([b"--cut", b"\r\n", b"--", b"-", b";", b'"', b"\\", b"a=b", b":", b"%", b"\r", b"x"]),
)
@example(b"", b"\r\n--cu")
@example(b'--cut\r\ncontent-disposition: form-data; name="file"; filename="', b"\\")
def test_parsing_time_of_an_upload_is_linear_in_its_size(
    run: Run, before: bytes, unit: bytes
) -> None:
    def feed(data: bytes) -> None:
        try:
            run(read_upload(build_request(data, CONTENT_TYPE), 10 * SMALL_BYTES))
        except ApiError:
            return

    check_growth(feed, lambda size: before + repeated(unit, size) + b"\r\n--cut--")


def test_largest_headers_of_an_upload_are_read_at_once(run: Run) -> None:
    names = b'name="file"; x="' + rb"\"" * 2000
    part = b"--cut\r\nContent-Disposition: form-data; " + names + b"\r\n\r\nx\r\n"

    def feed(data: bytes) -> None:
        with pytest.raises(ApiError):
            run(read_upload(build_request(data, CONTENT_TYPE), 10 * SMALL_BYTES))

    assert measure_cpu_seconds(feed, part * 10 + b"--cut--") < MAX_PARAMETER_SECONDS


def test_a_long_time_zone_is_refused_at_once() -> None:
    def feed(name: bytes) -> None:
        with pytest.raises(ApiError):
            load_zone(name.decode())

    assert measure_cpu_seconds(feed, b"utc" + b" " * 8000 + b"x") < MAX_PARAMETER_SECONDS


HEAVY = {
    "arrays": b"[[" + b"[]," * 100_000 + b"[]]]",
    "objects": b"[" + b"{}," * 100_000 + b"{}]",
    "numbers": b"[[" + b"1," * 100_000 + b"1]]",
    "surrogates": b'[{"title":"' + b"\\ud800" * 50_000 + b'"}]',
    "names": b"[{" + b",".join(b'"%d":1' % number for number in range(40_000)) + b"}]",
    "faults": b"["
    + b",".join([b"{" + b",".join(b'"%d":1' % number for number in range(100)) + b"}"] * 500)
    + b"]",
}
MAX_BYTES_PER_BYTE = 60
"""Bytes of memory for each byte of the document. An empty array of three characters becomes an
object of 56 bytes and a reference.
"""


@pytest.mark.parametrize("name", HEAVY)
def test_memory_of_a_document_is_linear_in_its_size(name: str) -> None:
    data = HEAVY[name]
    tracemalloc.start()
    try:
        feed_json(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_BYTES_PER_BYTE * len(data)
