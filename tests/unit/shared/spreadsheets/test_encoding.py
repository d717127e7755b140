"""Encodings: what is read, what is guessed, and what is refused as what it is."""

import gzip
import io
import zipfile

import pytest

from shared.contract.errors import ApiError
from shared.spreadsheets.encoding import (
    DOUBTFUL_ENCODING,
    GUESSED_ENCODING,
    READABLE,
    resolve_encoding,
)
from shared.spreadsheets.table import CsvTable, read_csv
from shared.spreadsheets.western_text import CANDIDATES
from tests.unit.shared.spreadsheets.files import HEADER, ROW, build_file, find_refusal


def read_titles(table: CsvTable) -> list[str]:
    return [row.values["title"] for row in table.rows if isinstance(row.values, dict)]


@pytest.mark.parametrize("marks", [1, 2, 3])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_are_dropped_however_many(encoding: str, marks: int) -> None:
    table = read_csv(("\ufeff" * marks + build_file("Größe €")).encode(encoding))
    assert (read_titles(table), table.warnings) == (["Größe €"], [])


@pytest.mark.parametrize(
    "title",
    [
        "Café",
        "Größe XL",
        "MÜLLER",
        "äöüß",
        "åäö",
        "Crème brûlée",
        "créée",
        "L’été en forêt",
        "œuvre d’art",
        "¡Oferta! Diseño clásico",
        "¿Qué regalar en Navidad?",
        "Coleção de verão",
        "PROMOÇÃO",
        "Perché no? Così è la vita",
        "Coëfficiënt",
        "Rødgrød med fløde",
        "Smörgåsbord",
        "Hyvää päivää, yöpöytä",
        "Þórður á Íslandi",
        "Col·lecció",
        "Sláinte mhaith",
        "Mid-century lamp – “oak”",
        "£20, 25 °C, 5 m², 3 × 4, ½, € 19,–",
        "Brand™ • ® Acme © 2026 …",
        "5\u00a0kg",
    ],
)
def test_western_text_in_windows_1252_is_read_with_a_warning(title: str) -> None:
    title = title.replace(",", ";")
    table = read_csv(build_file("Lampe", title).encode("cp1252"))
    assert read_titles(table) == ["Lampe", title]
    assert table.warnings == [GUESSED_ENCODING]
    assert table.header.encoding == "cp1252"


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("cp1251", "Маленькая лампа"),
        ("cp1251", "дом"),
        ("cp1251", "Настільна лампа для кухні"),
        ("koi8-r", "Настольная лампа"),
        ("cp866", "Настольная лампа"),
        ("cp1253", "Φωτιστικό δαπέδου"),
        ("cp1253", "Καφές"),
        ("cp1253", "το"),
        ("cp1250", "Łódź"),
        ("cp1250", "Zażółć gęślą jaźń"),
        ("cp1250", "Žluťoučký kůň"),
        ("cp1250", "Dvořák"),
        ("cp1250", "Růže pro děti"),
        ("cp1250", "Árvíztűrő tükörfúrógép"),
        ("cp1250", "Erdő"),
        ("cp1250", "Timişoara"),
        ("cp1250", "Đakovo"),
        ("cp1254", "Kış güneşi"),
        ("cp1254", "Çiğdem, Işık ve Gülşah için ahşap masa".replace(",", "")),
        ("cp1257", "Žalia kėdė Kalėdų dovanos"),
        ("cp1255", "מנורת רצפה"),
        ("cp1256", "طاولة خشبية"),
        ("cp874", "โคมไฟ"),
        ("shift_jis", "ランプ"),
        ("shift_jis", "日本の椅子"),
        ("euc_jp", "フロアランプ"),
        ("gbk", "台灯"),
        ("gbk", "客厅落地灯"),
        ("big5", "檯燈"),
        ("big5", "客廳落地燈"),
        ("euc_kr", "램프"),
        ("euc_kr", "거실 스탠드"),
        ("mac_roman", "Küche"),
        ("mac_roman", "Café"),
        ("cp850", "Café"),
        ("cp850", "schön"),
    ],
)
def test_other_text_is_refused_with_the_line_and_read_when_its_encoding_is_declared(
    encoding: str, title: str
) -> None:
    data = build_file("Lampe", title).encode(encoding)
    refused = find_refusal(data)
    assert (refused.code, refused.details["line"]) == ("invalid_encoding", 3)
    assert refused.message.startswith("Line 3 is not UTF-8. ")
    assert "Save the spreadsheet as CSV UTF-8." in refused.message
    table = read_csv(data, encoding=encoding)
    assert (read_titles(table), table.warnings) == (["Lampe", title], [])


@pytest.mark.parametrize(
    ("encoding", "guess", "titles"),
    [
        ("cp1251", "windows-1251", ["Привет"]),
        ("cp1251", "windows-1251", ["Настольная лампа для кухни", "Зелёный торшер"]),
        ("cp1253", "windows-1253", ["Φωτιστικό δαπέδου για το σπίτι", "Μικρή λάμπα"]),
        ("cp1250", "windows-1250", ["Zażółć gęślą jaźń", "Lampa stojąca, żółta".replace(",", "")]),
        (
            "mac_roman",
            "macintosh",
            ["Lampe für Küche und Büro", "Schöne Grüße", "Größe: zwölf Meter", "Möbel für Gäste"],
        ),
    ],
)
def test_the_refusal_names_a_guess_and_how_to_declare_it(
    encoding: str, guess: str, titles: list[str]
) -> None:
    refused = find_refusal(build_file(*titles).encode(encoding))
    assert refused.details == {"line": 2, "guess": guess}
    assert refused.message == (
        f"Line 2 is not UTF-8. The file looks like {guess}, which is not certain. Save the "
        f"spreadsheet as CSV UTF-8. Or declare its encoding: ?encoding={guess}, or pinflow import "
        f"--encoding {guess}."
    )


def test_every_guess_can_be_declared() -> None:
    assert [resolve_encoding(name) for name in CANDIDATES.values()] == list(CANDIDATES)


def test_a_foreign_name_in_a_long_western_file_does_not_refuse_it() -> None:
    titles = ["Größe", "Küche", "schön", "Tür", "Möbel", "Grün", "Süß", "Höhe", "Länge", "Nähe"]
    table = read_csv(
        build_file(*[f"{t} {n}" for t in titles for n in "abcdef"], "Yalçin").encode("cp1252")
    )
    assert table.warnings == [GUESSED_ENCODING]


@pytest.mark.parametrize(
    ("correct", "broken"),
    [
        ("Café äöü", b"B\xc3"),
        ("Café", b"don\xe2\x80t"),
        ("lamp 🎈", b"\xf0\x9f\x8e"),
        ("Größe", b"caf\xe9"),
        ("Лампа", b"\xd0"),
        ("日本", b"\xe6\x97"),
    ],
)
def test_utf_8_with_a_broken_sequence_is_refused_with_the_line(correct: str, broken: bytes) -> None:
    data = build_file(correct, "x", "BROKEN").encode().replace(b"BROKEN", broken)
    refused = find_refusal(data)
    assert (refused.code, refused.details) == ("invalid_encoding", {"line": 4, "guess": "utf-8"})
    assert refused.message == (
        "Line 4 has bytes that are not UTF-8; the rest of the file is UTF-8. A program may have "
        "cut a character. Correct the line. Save the spreadsheet as CSV UTF-8."
    )


def test_a_marked_utf_8_file_with_a_fault_is_refused_with_the_line() -> None:
    refused = find_refusal(b"\xef\xbb\xbf" + HEADER.encode() + b"\na,b,\xff,k,u")
    assert (refused.code, refused.details) == ("invalid_encoding", {"line": 2})


def test_a_marked_utf_16_file_that_was_cut_is_refused_with_the_line() -> None:
    refused = find_refusal(b"\xff\xfe" + f"{HEADER}\n".encode("utf-16-le") + b"\x00")
    assert (refused.code, refused.details) == ("invalid_encoding", {"line": 2})


def test_a_lone_byte_without_meaning_is_refused() -> None:
    refused = find_refusal(HEADER.encode() + b"\na,b,\x81,k,u")
    assert (refused.code, refused.details["line"]) == ("invalid_encoding", 2)


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("windows-1251", "cp1251"),
        ("CP1251", "cp1251"),
        (" Windows-1251 ", "cp1251"),
        ("utf8", "utf-8"),
        ("UTF-16", "utf-16"),
        ("utf-16", "utf-16-be"),
        ("utf-16", "utf-16-le"),
        ("koi8-r", "koi8-r"),
        ("macintosh", "mac-cyrillic"),
    ],
)
def test_a_declared_encoding_is_obeyed(declared: str, encoding: str) -> None:
    title = "Lampe é" if declared == "macintosh" else "Лампа"
    encoding = "mac_roman" if declared == "macintosh" else encoding
    table = read_csv(build_file(title).encode(encoding), encoding=declared)
    assert (read_titles(table), table.warnings) == ([title], [])


@pytest.mark.parametrize(
    ("declared", "encoding", "title"),
    [
        ("iso-8859-1", "cp1252", "Größe – 19 €"),
        ("latin1", "cp1252", "“oak”"),
        ("shift_jis", "cp932", "①ランプ"),
        ("gb2312", "gb18030", "檯燈"),
        ("ks_c_5601-1987", "cp949", "뷁"),
    ],
)
def test_a_declared_encoding_stands_for_the_larger_one_of_windows(
    declared: str, encoding: str, title: str
) -> None:
    table = read_csv(build_file(title).encode(encoding), encoding=declared)
    assert read_titles(table) == [title]


@pytest.mark.parametrize(
    "declared",
    [
        "", "undefined", "rot13", "zip", "base64", "hex", "idna", "punycode", "utf-7", "mbcs",
        "unicode_escape", "raw_unicode_escape", "cp037", "cp500", "iso2022_jp", "hz", "utf_32",
        "no-such", "../../x", "ütf-8", "x" * 100_000,
    ],
)  # fmt: skip
def test_a_declared_encoding_that_is_unknown_or_none_of_csv_files_is_refused(declared: str) -> None:
    refused = find_refusal(build_file("Lampe").encode(), encoding=declared)
    assert refused.code == "invalid_encoding"
    assert refused.message.startswith('The encoding "')
    assert len(refused.message) < 250


def test_every_readable_encoding_exists_and_keeps_ascii() -> None:
    for name in READABLE:
        text = build_file("Lampe")
        assert read_titles(read_csv(text.encode(name), encoding=name)) == ["Lampe"], name


def test_bytes_that_do_not_fit_the_declared_encoding_are_refused_with_the_line() -> None:
    refused = find_refusal(build_file("Lampe", "Café").encode("cp1252"), encoding="UTF-8")
    assert (refused.code, refused.details) == ("invalid_encoding", {"line": 3})
    assert refused.message == (
        "Line 3 can't be read as UTF-8, the declared encoding. Save the spreadsheet as CSV UTF-8."
    )


def test_a_declared_encoding_that_contradicts_the_byte_order_mark_is_refused() -> None:
    refused = find_refusal(build_file("Café").encode("utf-8-sig"), encoding="windows-1252")
    assert refused.code == "invalid_encoding"
    assert "byte order mark of UTF-8" in refused.message


def test_a_declared_encoding_is_doubted_if_the_file_is_utf_8() -> None:
    table = read_csv(build_file("Café").encode(), encoding="windows-1252")
    assert (read_titles(table), table.warnings) == (["CafÃ©"], [DOUBTFUL_ENCODING])


def _workbook(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.spreadsheet")
    return buffer.getvalue()


def _zip(name: str, content: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (
            b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0[Content_Types].xml" * 9,
            "an Excel workbook (.xlsx)",
        ),
        (_zip("xl/workbook.xml", "<x/>"), "an Excel workbook (.xlsx)"),
        (_zip("word/document.xml", "<x/>"), "a Word document (.docx)"),
        (
            _zip("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
            "an OpenDocument file (.ods)",
        ),
        (_zip("pins.csv", HEADER), "a ZIP archive"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
            "a document of an old Office program, probably an Excel workbook (.xls)",
        ),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a picture (PNG)"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture (JPEG)"),
        (b"GIF89a", "a picture (GIF)"),
        (gzip.compress(HEADER.encode(), mtime=0), "a compressed file (gzip)"),
        (b"<!DOCTYPE html><html>", "a web page or an XML document"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>', "a web page or an XML document"),
    ],
)
def test_a_file_of_another_type_is_named_for_what_it_is(data: bytes, name: str) -> None:
    for options in ({}, {"encoding": "windows-1252"}):
        refused = find_refusal(data, **options)
        assert (refused.code, refused.message) == (
            "invalid_csv",
            (
                f"The file is {name}, not CSV. Open it in a spreadsheet program and save it as CSV "
                "UTF-8."
            ),
        )


@pytest.mark.parametrize(
    "text", ['[{"title": "a"}]', ' \n[\n {"title"', '{"rows": []}', "[]", "{}", '\ufeff[{"a":1}]']
)
def test_json_is_named_and_sent_to_its_own_endpoint(text: str) -> None:
    refused = find_refusal(text.encode())
    assert (refused.code, refused.message) == (
        "invalid_csv",
        (
            "The file is JSON, not CSV. Send it to POST /v1/pins/imports/json, or use `pinflow "
            "import --format json`."
        ),
    )


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("title", ["Lampe", "Größe", "Маленькая лампа", "ランプ"])
def test_utf_16_without_a_mark_is_named_and_read_when_declared(encoding: str, title: str) -> None:
    data = build_file(title).encode(encoding)
    refused = find_refusal(data)
    assert (refused.code, refused.details) == ("invalid_encoding", {"guess": encoding})
    assert refused.message == (
        "The file is UTF-16 without a byte order mark. Save the spreadsheet as CSV UTF-8. Or send "
        f"?encoding={encoding}."
    )
    assert read_titles(read_csv(data, encoding=encoding)) == [title]


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-be"])
def test_utf_32_is_named(encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-32-be" else ""
    refused = find_refusal((mark + build_file("Lampe")).encode(encoding))
    assert (refused.code, "UTF-32" in refused.message) == ("invalid_encoding", True)


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 4,
        b"\x7fELF\x02\x01\x01" + bytes(64),
        f"{HEADER}\0\n{ROW}".encode(),
        f"{HEADER}\n{ROW}\n".encode() + b"a\0\0\0" * 100,
        b"\xff\xfe" + f"{HEADER}\0\n{ROW}".encode("utf-16-le"),
    ],
)
def test_binary_data_is_named(data: bytes) -> None:
    refused = find_refusal(data)
    assert (refused.code, refused.message) == (
        "invalid_csv",
        "The file is binary data, not CSV. Save the spreadsheet as CSV UTF-8.",
    )


def test_a_single_nul_fails_only_its_row() -> None:
    assert read_titles(read_csv(build_file("a\0b", "c").encode())) == ["a\0b", "c"]


def test_the_bounds_of_an_error_message_hold() -> None:
    with pytest.raises(ApiError) as refused:
        resolve_encoding("\ud800")
    refused.value.message.encode()
