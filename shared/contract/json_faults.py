"""Explains why a text is not JSON: recognizes frequent mistakes and says how to correct them."""

import re
import unicodedata

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAX_LINE = 2000
"""Characters of the first line that are searched for a delimiter."""

_WORDS = {
    "NaN": "NaN is not a JSON value. Send null or a number",
    "nan": "nan is not a JSON value. Send null or a number",
    "Infinity": "Infinity is not a JSON value. Send null or a number",
    "inf": "inf is not a JSON value. Send null or a number",
    "True": "True is not a JSON value. Write true in lower case",
    "False": "False is not a JSON value. Write false in lower case",
    "None": "None is not a JSON value. Write null",
    "undefined": "undefined is not a JSON value. Write null, or leave the field out",
}
_WORD = re.compile(r"-?([A-Za-z]+)")
_NAME = re.compile(r"[\w$]")
# Possessive: a string of some MiB would otherwise need memory to try it again
_CONSTANTS = re.compile(r'"(?:[^"\\]++|\\.)*+"|(-?Infinity|NaN)', re.DOTALL)
_CURLY_QUOTES = "\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019"
_CSV_ADVICE = (
    "the text looks like CSV. Send CSV as a file, in the form field `file` of POST "
    "/v1/pins/imports/csv"
)
_COMMENTS = ("//", "/*", "#")
_COMMENT_ADVICE = "JSON has no comments. Remove them"
_TEXT_ADVICE = "a text needs double quotes"
_TRAILING_COMMA = "a comma stands before a closing bracket. Remove the comma"
_CUT = "Check whether the document was cut off"


def explain_bytes(body: bytes) -> str | None:
    """Returns what the bytes are and the cure, if their beginning shows that they are no JSON."""
    if body.startswith(UTF_16_MARKS):
        return (
            "it is UTF-16, as PowerShell writes it with >. Save it as UTF-8: in PowerShell, with "
            "Out-File -Encoding utf8 instead of >"
        )
    if body[:4:2] == b"\0\0" or body[1:4:2] == b"\0\0":
        return "it is UTF-16 without a byte order mark. Save it as UTF-8"
    if body.startswith(GZIP):
        return "it is compressed with gzip. Send it without compression"
    if body.startswith(ZIP):
        return "it is a ZIP archive or an Excel workbook. Send JSON, or save the workbook as CSV"
    return None


def explain_fault(text: str, position: int, reason: str) -> str:
    """Returns the mistake at the position and the cure, in lower case and without a full stop.

    `reason` is the message of Python's parser. No part of the text is repeated, except a word from
    a fixed list.
    """
    if not text or text.isspace():
        return "it is empty. Send a JSON document"
    rest = text[position : position + 50]
    before = text[:position].rstrip()
    return (
        _explain_format(text, position, reason)
        or _explain_end(reason, rest)
        or _explain_in_text(reason, rest)
        or _explain_sign(rest)
        or _explain_structure(reason, rest[:1], before[-1:])
    )


def find_constant(text: str) -> int:
    """Returns the position of the first NaN or Infinity outside of strings.

    All of the text before it must be JSON.
    """
    return next((match.start(1) for match in _CONSTANTS.finditer(text) if match[1]), 0)


def _explain_format(text: str, position: int, reason: str) -> str | None:
    """Explains a document of another format, which fails at its first value."""
    document = text.lstrip()
    if text[:position].strip() and (reason != "Extra data" or document[0] in "{["):
        return None
    if document.startswith("<"):
        return "it is HTML or XML. Send JSON"
    if document.startswith("--"):
        return "it is a form (multipart/form-data). Send the JSON document itself as the body"
    first_line = document[:_MAX_LINE].partition("\n")[0]
    has_columns = any(delimiter in first_line for delimiter in ",;\t")
    is_words = any(sign.isalpha() for sign in first_line)
    return _CSV_ADVICE if has_columns and is_words and not set(first_line) & set("{[") else None


def _explain_end(reason: str, rest: str) -> str | None:
    """Explains a document that ends too early or too late."""
    if reason.startswith("Unterminated string"):
        return f"the text that begins here has no closing quotation mark. {_CUT}"
    if not rest.strip():
        return f"the document ends too early: something is not closed. {_CUT}"
    if reason != "Extra data":
        return None
    if rest[0] in "{[,":
        return (
            "another document follows the first one, as in NDJSON. Send one array: put the "
            "documents into [ ] and a comma between two of them"
        )
    if rest.startswith(_COMMENTS):
        return _COMMENT_ADVICE
    return "more text follows the end of the document. Remove it"


def _explain_in_text(reason: str, rest: str) -> str | None:
    """Explains a mistake inside a string."""
    if reason.startswith("Invalid control character"):
        sign = rest[0]
        escape = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(sign, rf"\u{ord(sign):04x}")
        kind = "line break" if sign in "\r\n" else "control character"
        return f"a {kind} stands inside a text. Write it as {escape}, or close the text before it"
    if reason.startswith("Invalid \\"):
        return r"a backslash begins an unknown escape. Write a backslash itself as \\"
    return None


def _explain_sign(rest: str) -> str | None:
    """Explains a sign that can't begin a name or a value."""
    if rest.startswith(_COMMENTS):
        return _COMMENT_ADVICE
    if rest[0] == "'":
        return "names and texts need double quotes, not single ones"
    if rest[0] in _CURLY_QUOTES:
        return 'names and texts need straight double quotes (")'
    if (word := _WORD.match(rest)) and word[1] in _WORDS:
        return _WORDS[word[1]]
    if unicodedata.category(rest[0]) in {"Zs", "Cf", "Cc"}:
        return f"an invisible character (U+{ord(rest[0]):04X}) stands here. Remove it"
    return None


def _explain_structure(reason: str, sign: str, before: str) -> str:
    if reason.startswith("Illegal trailing comma"):  # Python 3.13, at the comma itself
        return _TRAILING_COMMA
    if sign in "]}" and before == ",":
        return _TRAILING_COMMA
    if reason.startswith("Expecting ':'"):
        return "a colon is missing after the name"
    if reason.startswith("Expecting ','"):
        return _explain_missing_comma(sign, before)
    return _explain_missing_value(sign, is_name=reason.startswith("Expecting property name"))


def _explain_missing_value(sign: str, *, is_name: bool) -> str:
    if sign == ",":
        return "a value is missing before this comma. Remove the comma, or write null"
    if sign in "+.":
        return "a number begins with a digit or a minus sign"
    if _NAME.match(sign):
        return 'names need double quotes, as in "title"' if is_name else _TEXT_ADVICE
    return f"a {'name in double quotes' if is_name else 'value'} is missing here"


def _explain_missing_comma(sign: str, before: str) -> str:
    if sign == ":":
        return "names stand in an object. Use { } instead of [ ]"
    if sign.isdigit() and before == "0":
        return "a number has no leading zero. Write it without, or as text in double quotes"
    if sign in {"]", "}"}:
        return "the wrong bracket closes here. Use ] for a list and } for an object"
    if before == '"':
        return r"a comma is missing here, or a quotation mark inside a text is not written as \""
    return "a comma or a closing bracket is missing here"
