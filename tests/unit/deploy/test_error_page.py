"""The gateway's page about error codes."""

import re

import pytest

from deploy.generate.error_page import build_page
from shared.contract.errors import ErrorCode, build_help_path

PAGE = build_page()


@pytest.mark.parametrize("code", ErrorCode)
def test_the_help_path_of_every_code_leads_to_its_section(code: ErrorCode) -> None:
    page, _, anchor = build_help_path(code).partition("#")
    assert page == "/docs/errors"
    assert PAGE.count(f'<h3 id="{anchor}">') == 1
    assert f'<a href="#{anchor}">{code}</a>\n' in PAGE


def test_every_link_of_the_page_works_at_the_gateway() -> None:
    anchors = set(re.findall(r'id="([^"]*)"', PAGE))
    for address in re.findall(r'href="([^"]*)"', PAGE):
        assert address == "/docs" or address.removeprefix("#") in anchors
    assert PAGE.count('href="/docs"') == 1


def test_the_page_asks_no_other_server() -> None:
    assert re.findall(r"<(?:script|link|img|iframe)|url\(|@import", PAGE) == []
    assert re.findall(r"(?:src|href|action)=.?https?:", PAGE) == []


def test_example_messages_are_escaped() -> None:
    assert "<p>&quot;ids&quot; is empty." in PAGE
    assert "<script" not in PAGE
