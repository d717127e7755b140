"""Names and texts follow the rules of language in CONTRIBUTING.md."""

import pytest

from tests.support.language import Finding, find_all, find_in_python, find_wide_lines


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return find_all()


@pytest.mark.parametrize(
    "rule", ["wide line", "opening", "no verb", "name", "private term", "doubled class"]
)
def test_the_repository_keeps_the_rule(findings: list[Finding], rule: str) -> None:
    broken = [str(finding) for finding in findings if finding.rule == rule]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('def read() -> None:\n    """What Kafka tells."""\n', "opening"),
        ('class Lag:\n    """How far the publisher is behind."""\n', "opening"),
        ('LIMIT = 5\n"""Of one import."""\n', "opening"),
        ('def read() -> None:\n    """The lag of each partition."""\n', "no verb"),
        ("def read(who: str) -> None: ...\n", "name"),
        ("for one in rows:\n    pass\n", "name"),
        ("# The courier sends it\n", "private term"),
    ],
)
def test_a_module_that_breaks_a_rule_is_found(source: str, rule: str) -> None:
    assert {finding.rule for finding in find_in_python("services/example.py", source)} == {rule}


@pytest.mark.parametrize(
    "source",
    [
        'def read() -> None:\n    """Reads the lag of each partition."""\n',
        '@property\ndef lag() -> int:\n    """Records behind the end."""\n',
        '@router.get("/")\ndef show() -> None:\n    """Show the job."""\n',
        "rows = [row for row in (1, 2)]\n",
    ],
)
def test_a_module_that_keeps_the_rules_is_not_found(source: str) -> None:
    assert list(find_in_python("services/example.py", source)) == []


def test_only_tables_and_single_words_may_be_wide() -> None:
    text = "a " * 60
    assert len(list(find_wide_lines("page.md", f"{text}\n| {text} |\nsee {'x' * 120}\n"))) == 1
    assert len(list(find_wide_lines("module.py", f"| {text}\n"))) == 1
