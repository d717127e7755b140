"""The comparison of an example's output with what a page promises."""

import pytest

from tests.support.page_examples import END, Example, find_mismatches, matches


@pytest.mark.parametrize(
    ("promised", "printed"),
    [
        ("job …\n", "job 0199c0de\n"),
        ("a\n…\nz\n", "a\nb\nc\nz\n"),
        ("a\n…\nz\n", "a\nz\n"),
        ("cells   \n", "cells\n"),
        ("it costs 1.5 (or less)\n", "it costs 1.5 (or less)\n\n"),
    ],
)
def test_output_that_is_promised_matches(promised: str, printed: str) -> None:
    assert matches(promised.replace("   \n", "\n"), printed)


@pytest.mark.parametrize(
    ("promised", "printed"),
    [("1 created\n", "2 created\n"), ("job …\n", "job a\nb\n"), ("a.c\n", "abc\n"), ("a\n", "")],
)
def test_other_output_does_not_match(promised: str, printed: str) -> None:
    assert not matches(promised, printed)


def test_an_example_that_did_not_end_is_a_mismatch() -> None:
    examples = [Example("sh", "echo a\n", "a\n"), Example("sh", "false\n", None)]
    assert find_mismatches(examples, f"a\n{END}\n") == ["1 of 2 examples ended"]
    assert find_mismatches(examples, f"a\n{END}\n{END}\n") == []
