"""Multipart: the file that was put in comes out, and of anything else, a file or a refusal."""

from collections.abc import Sequence

import pytest
from fastapi import Request
from hypothesis import assume, example, given
from hypothesis import strategies as st

from services.ingest.parsing.multipart import UploadedFile
from shared.contract.errors import ApiError
from tests.property.conftest import Run
from tests.property.documents import mutated
from tests.property.profiles import examples
from tests.property.refusals import check
from tests.support.uploads import read_upload

# Starlette leaves a file that the body never ended to the collector: at most the body's 5 MiB,
# freed with the request
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")

REFUSALS = {"invalid_multipart", "missing_file", "unsupported_media_type", "payload_too_large"}
LIMIT = 100_000
TYPE = b"multipart/form-data; boundary=cut"


def requested(body: bytes, content_type: bytes, sizes: Sequence[int] = ()) -> Request:
    """A request whose body comes in pieces of these sizes, and then the rest."""
    pieces = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    messages = iter(
        [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    )

    async def receive() -> dict[str, object]:
        return next(messages, {"type": "http.request", "body": body, "more_body": False})

    headers = [(b"content-type", content_type)]
    return Request(
        {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers},
        receive,
    )


def multipart(data: bytes, filename: bytes = b"a.csv", field: bytes = b"file") -> bytes:
    head = (
        b'--cut\r\ncontent-disposition: form-data; name="%b"; filename="%b"\r\n'
        b"content-type: text/csv\r\n\r\n" % (field, filename)
    )
    return (
        b'--cut\r\ncontent-disposition: form-data; name="note"\r\n\r\nhello\r\n'
        + head
        + data
        + b"\r\n--cut--\r\n"
    )


def upload_or_refused(run: Run, body: bytes, content_type: bytes) -> UploadedFile | None:
    try:
        return run(read_upload(requested(body, content_type), LIMIT))  # type: ignore[no-any-return]
    except ApiError as refusal:
        check(refusal, REFUSALS)
        return None


@examples(60)
@given(st.binary(max_size=200), st.lists(st.integers(1, 60), max_size=4))
def test_an_uploaded_file_is_read_unchanged_however_the_body_is_chunked(
    run: Run, data: bytes, sizes: list[int]
) -> None:
    assume(b"--cut" not in data)
    assert run(read_upload(requested(multipart(data), TYPE, sizes), LIMIT)) == UploadedFile(
        data, "a.csv"
    )


@examples(120)
@given(
    mutated(
        st.builds(
            multipart,
            st.binary(max_size=60),
            st.sampled_from([b"", b"\xff", b'a"b', b"a;b=c"]),
            st.sampled_from([b"file", b""]),
        )
    )
)
@example(b"")
@example(b"--cut--")
@example(b"--cut\r\n" + b"x: y\r\n" * 10_000 + b"\r\n--cut--")
@example(
    b'--cut\r\ncontent-disposition: form-data; name="file"; filename="'
    + b"\\" * 90_000
    + b'"\r\n\r\n\r\n--cut--'
)
@example(b"--cut\r\ncontent-disposition: form-data" + b"; a=b" * 15_000 + b"\r\n\r\n\r\n--cut--")
def test_a_damaged_body_is_read_or_refused(run: Run, body: bytes) -> None:
    upload_or_refused(run, body, TYPE)


_types = st.binary(max_size=30).map(lambda rest: TYPE + rest) | mutated(
    st.just(TYPE + b"; charset=utf-8")
)


@examples(80)
@given(_types)
@example(b"multipart/form-data; charset=undefined; boundary=cut")
@example(b"multipart/form-data; charset=idna; boundary=cut")
@example(b"multipart/form-data; charset=base64; boundary=cut")
@example(b"multipart/form-data; charset=\xff; boundary=cut")
@example(b"multipart/form-data; charset=\0; boundary=cut")
@example(b"multipart/form-data; boundary*=utf-8''c%75t")
@example(b"multipart/form-data; boundary=" + b"c" * 60_000)
def test_a_damaged_content_type_is_read_or_refused(run: Run, content_type: bytes) -> None:
    upload_or_refused(run, multipart(b"data", b"\xc3\xa4.csv"), content_type)
