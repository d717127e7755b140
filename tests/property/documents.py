"""Strategies for input of clients: valid and hostile rows and documents, and damaged ones."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from shared.contract.pins import PinSubmission

FIELDS = tuple(PinSubmission.model_fields)
REQUIRED = ("account_id", "board_id", "title", "idempotency_key")

encodable = st.characters(exclude_categories=["Cs"])
"""All characters but lone surrogates, which no encoding can represent."""
CONTROL = "".join(chr(code) for code in range(0x20) if chr(code) not in "\t\n\r")
"""Characters that a row's texts must not contain (shared/contract/pins.py)."""
storable_characters = st.characters(exclude_categories=["Cs"], exclude_characters=CONTROL)
awkward = st.sampled_from(list(",;\t\"'\r\n =+-@\\|\x00\x1a\x85\xa0\u2028\ufeff\ufffdäß€名🎈İ"))
cells = st.text(encodable | awkward, min_size=1, max_size=12)

ids = st.uuids().map(str)
keys = st.text(storable_characters, min_size=1, max_size=255).filter(lambda key: bool(key.strip()))
_hosts = st.sampled_from(
    [
        "cdn.example",
        "CDN.Example:443",
        "bücher.example",
        "127.0.0.1",
        "[::1]:80",
        "a_b.example",
        "user:pw@x.example",
    ]
)
_paths = st.text(storable_characters, max_size=30)
urls = st.builds(
    lambda scheme, host, path: f"{scheme}://{host}/{path}",
    st.sampled_from(["http", "https", "HTTPS"]),
    _hosts,
    _paths,
)
texts = st.text(storable_characters, min_size=1, max_size=40)
terms = st.lists(
    st.text(storable_characters.filter(lambda term: term != ","), max_size=20), max_size=50
)
colors = st.from_regex(r"#?[0-9a-fA-F]{6}", fullmatch=True)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
"""Fixed offsets, not named zones.

When a zone's clocks go back, Python treats a time in the repeated hour as unequal to the same
instant in UTC.
"""
instants = st.datetimes(timezones=offsets | st.none()).map(
    lambda moment: moment.isoformat() + ("" if moment.tzinfo else "Z")
)

_signs_of_files = st.sampled_from(
    ["\r\n", *'\r\n\t "', '""', *",;|'=+-@ \xa0\ufeff\u2028", "e\u0301", *"İß€名🎈"]
)
file_texts = st.lists(_signs_of_files | storable_characters, min_size=1, max_size=20).map("".join)
"""Texts with signs that have a meaning in CSV files, in formulas or in encodings."""
file_keys = file_texts.filter(lambda key: bool(key.strip()))
likely_instants = st.integers(
    int(datetime(2011, 1, 1, tzinfo=UTC).timestamp()),
    int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()),
).flatmap(
    lambda seconds: offsets.map(lambda offset: datetime.fromtimestamp(seconds, offset).isoformat())
)
"""Times that Pinflow accepts (shared/contract/run_at.py)."""


@st.composite
def valid_rows(
    draw: st.DrawFn,
    keys: st.SearchStrategy[str] = keys,
    texts: st.SearchStrategy[str] = texts,
    urls: st.SearchStrategy[str] = urls,
    instants: st.SearchStrategy[str] = instants,
) -> dict[str, Any]:
    """Draws a row that PinSubmission accepts if it accepts the URLs and times."""
    row = {
        "account_id": draw(ids),
        "board_id": draw(keys),
        "title": draw(texts.filter(lambda text: bool(text.strip()))),
        "idempotency_key": draw(keys),
        draw(st.sampled_from(["image_url", "asset_id"])): None,
    }
    row = {
        name: draw(ids if name == "asset_id" else urls) if value is None else value
        for name, value in row.items()
    }
    optional = {
        "description": texts,
        "alt_text": texts,
        "link_url": urls,
        "cover_image_url": urls,
        "dominant_color": colors,
    }
    for name, values in {
        **optional,
        "related_terms": terms.map(",".join),
        "run_at": instants,
    }.items():
        if draw(st.booleans()):
            row[name] = draw(values)
    return row


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        st.characters(), max_size=12
    )  # includes lone surrogates: JSON escapes can express them
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
arbitrary_rows = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(st.characters(), max_size=8),
    values | urls | keys | texts | instants,
    max_size=16,
)
"""Rows whose fields have values of any type."""

HOSTILE_BYTES = (
    b"\0", b'"', b'""', b"\r", b"\n", b",", b";", b"\\u0000", b"\\ud800", b"\xff", b"\xfe\xff",
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"NaN", b"1e999", b"-0", b"9" * 5000, b"[" * 2000,
    b'{"a":' * 2000, b"]" * 50, b"null", b"\xc0\x80", b"x" * 70_000, b"," * 3000,
    b'"title":"twice",',
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, documents: st.SearchStrategy[bytes]) -> bytes:
    """Damages a document up to four times: changes, removes, repeats or adds bytes."""
    data = bytearray(draw(documents))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 40)))
        match draw(
            st.sampled_from(["flip", "cut", "double", "insert", "replace", "truncate", "splice"])
        ):
            case "flip":
                data[begin:end] = bytes(
                    byte ^ draw(st.integers(1, 255)) for byte in data[begin : begin + 1]
                )
            case "cut":
                del data[begin:end]
            case "double":
                data[begin:begin] = data[begin:end] * draw(st.integers(1, 50))
            case "insert":
                data[begin:begin] = draw(st.sampled_from(HOSTILE_BYTES) | st.binary(max_size=8))
            case "replace":
                data[begin:end] = draw(st.sampled_from(HOSTILE_BYTES) | st.binary(max_size=8))
            case "truncate":
                del data[begin:]
            case _:
                data[begin:] = draw(documents)[begin:]
    return bytes(data)


json_imports = st.lists(valid_rows() | arbitrary_rows, max_size=4).map(
    lambda rows: json.dumps(rows, ensure_ascii=False).encode(errors="replace")
)
"""JSON imports.

`mutated` adds repeated names in an object, and escapes of characters that can't be encoded.
"""
json_documents = st.tuples(values, st.booleans()).map(
    lambda drawn: json.dumps(drawn[0], ensure_ascii=drawn[1]).encode(errors="replace")
)
