"""Generates the gateway's page about error codes from docs/reference/errors.md."""

import html
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

SOURCE = Path(__file__).parents[2] / "docs/reference/errors.md"

_STYLE = """\
:root { color-scheme: light dark; --line: light-dark(#d9d9d9, #444);
  --soft: light-dark(#f4f4f2, #262626); --text: light-dark(#1d1d1b, #e8e8e6);
  --link: light-dark(#0b57a4, #8ab8ff); --mark: light-dark(#fff3c4, #4a3f12); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; padding: 1rem 1.25rem 4rem; color: var(--text);
  background: light-dark(#fff, #181818); font: 1rem/1.55 system-ui, sans-serif; }
a { color: var(--link); }
code { font: 0.92em ui-monospace, monospace; background: var(--soft); padding: 0.1em 0.3em;
  border-radius: 3px; overflow-wrap: anywhere; }
h1 { margin-top: 1rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); padding-bottom: 0.3rem; }
h3 { margin: 2rem 0 0.5rem; font-family: ui-monospace, monospace; scroll-margin-top: 1rem; }
h3 a, h2 a { color: inherit; text-decoration: none; }
h3 a:hover, h2 a:hover { text-decoration: underline; }
h3:target, h2:target { background: var(--mark); padding: 0.2rem 0.4rem; margin-left: -0.4rem; }
blockquote { margin: 0.75rem 0; padding: 0.1rem 0.9rem; border-left: 3px solid var(--line);
  background: var(--soft); font-size: 0.94em; overflow-wrap: anywhere; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.94em; }
th, td { border: 1px solid var(--line); padding: 0.35rem 0.6rem; text-align: left;
  vertical-align: top; }
th { background: var(--soft); }
nav.codes { columns: 16rem; font-size: 0.9em; border: 1px solid var(--line); padding: 0.8rem 1rem; }
nav.codes section { break-inside: avoid; margin-bottom: 0.8rem; }
nav.codes strong, nav.codes a { display: block; }
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Errors of Pinflow</title>
<style>
{style}</style>
</head>
<body>
<nav><a href="/docs">Pinflow's API</a></nav>
{introduction}
<nav class="codes" aria-label="All codes">
{contents}</nav>
{sections}
</body>
</html>
"""


def build_page() -> str:
    """Builds the page. The anchor of each code is the code."""
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(SOURCE.read_text(encoding="utf-8"))
    for opening, inline in _find_headings(tokens):
        opening.attrSet("id", _build_anchor(inline.content))
    for token in tokens:
        if token.type == "inline":
            token.children = list(_select_links(token.children or []))
    first_group = next(index for index, token in enumerate(tokens) if token.tag == "h2")
    render = parser.renderer.render
    introduction = render(tokens[:first_group], parser.options, {})
    sections = render(tokens[first_group:], parser.options, {})
    return _PAGE.format(
        style=_STYLE,
        introduction=introduction.rstrip(),
        contents=_build_contents(tokens),
        sections=_link_headings(_wrap_tables(sections)).rstrip(),
    )


def _find_headings(tokens: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    """Yields the opening token and the text of each heading."""
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            yield opening, inline


def _build_anchor(title: str) -> str:
    """Builds a heading's anchor as GitHub does."""
    return re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))


def _select_links(children: Sequence[Token]) -> Iterator[Token]:
    """Yields the tokens without links to other pages of the documents: the gateway lacks them."""
    is_kept = True
    for token in children:
        if token.type == "link_open":
            is_kept = str(token.attrGet("href")).startswith(("#", "/"))
        if is_kept or token.type not in {"link_open", "link_close"}:
            yield token


def _build_contents(tokens: Sequence[Token]) -> str:
    lines: list[str] = []
    for opening, inline in _find_headings(tokens):
        link = f'<a href="#{opening.attrGet("id")}">{html.escape(inline.content)}</a>'
        if opening.tag == "h2":
            lines += ["</section>"] if lines else []
            lines += ["<section>", f"<strong>{link}</strong>"]
        elif opening.tag == "h3":
            lines.append(link)
    return "\n".join([*lines, "</section>", ""])


def _wrap_tables(text: str) -> str:
    """Makes wide tables scroll by themselves, so that the page does not."""
    return text.replace("<table>", '<div class="table">\n<table>').replace(
        "</table>", "</table>\n</div>"
    )


def _link_headings(text: str) -> str:
    return re.sub(
        r'<(h[23]) id="([^"]*)">(.*?)</\1>', r'<\1 id="\2"><a href="#\2">\3</a></\1>', text
    )
