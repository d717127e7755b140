from tests.acceptance.hostile.document import DOCUMENT, build_document


def test_the_document_matches_the_catalogue() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == build_document(), (
        "the page is outdated: run python -m tests.acceptance.hostile.document"
    )
