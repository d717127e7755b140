"""An uploaded file is read back from its multipart body. Other bodies are read or refused."""

from collections.abc import Sequence

from fastapi import Request
from hypothesis import assume, example, given
from hypothesis import strategies as st

from services.ingest.parsing.multipart import UploadedFile
from shared.contract.errors import ApiError
from tests.property.api_errors import check_error
from tests.property.conftest import Run
from tests.property.documents import mutated
from tests.property.profiles import examples
from tests.support.uploads import read_upload

REFUSALS = {
    "invalid_multipart",
    "missing_file",
    "unknown_parameter",
    "unsupported_media_type",
    "payload_too_large",
}
LIMIT_BYTES = 100_000
CONTENT_TYPE = b"multipart/form-data; boundary=cut"


def build_request(body: bytes, content_type: bytes, sizes: Sequence[int] = ()) -> Request:
    """Builds a request whose body arrives in chunks of these sizes and a last chunk."""
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
    return head + data + b"\r\n--cut--\r\n"


def read_or_refused(run: Run, body: bytes, content_type: bytes) -> UploadedFile | None:
    try:
        upload: UploadedFile = run(read_upload(build_request(body, content_type), LIMIT_BYTES))
    except ApiError as refusal:
        check_error(refusal, REFUSALS)
        return None
    return upload


@examples(60)
@given(st.binary(max_size=200), st.lists(st.integers(1, 60), max_size=4))
def test_an_uploaded_file_is_read_unchanged_however_the_body_is_chunked(
    run: Run, data: bytes, sizes: list[int]
) -> None:
    assume(b"--cut" not in data)
    assert run(
        read_upload(build_request(multipart(data), CONTENT_TYPE, sizes), LIMIT_BYTES)
    ) == UploadedFile(data, "a.csv")


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
    read_or_refused(run, body, CONTENT_TYPE)


_types = st.binary(max_size=30).map(lambda rest: CONTENT_TYPE + rest) | mutated(
    st.just(CONTENT_TYPE + b"; charset=utf-8")
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
    read_or_refused(run, multipart(b"data", b"\xc3\xa4.csv"), content_type)
