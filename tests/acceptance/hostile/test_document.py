from tests.acceptance.hostile.document import DOCUMENT, text


def test_the_document_is_the_catalogue() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == text(), (
        "python -m tests.acceptance.hostile.document"
    )
