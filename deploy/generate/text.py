"""Formats documents as the text of generated files, independent of the width of source lines."""

import json
import re
from typing import Any

_BLANK_LINES = re.compile(r"\n\s*\n")
_LIST_ITEM = re.compile(r"\n\s*(?=[-*] )")


def join_lines(description: str) -> str:
    """Joins the lines of each paragraph and of each list item."""
    return "\n\n".join(_join_paragraph(part) for part in _BLANK_LINES.split(description.strip()))


def _join_paragraph(paragraph: str) -> str:
    return "\n".join(" ".join(item.split()) for item in _LIST_ITEM.split(paragraph))


def join_descriptions(node: Any) -> Any:
    """Copies a JSON document and joins the lines of its descriptions, but not of its examples."""
    if isinstance(node, list):
        return [join_descriptions(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _join_value(key, value) for key, value in node.items()}


def _join_value(key: str, value: Any) -> Any:
    if key == "description" and isinstance(value, str):
        return join_lines(value)
    return value if key in {"example", "examples"} else join_descriptions(value)


def to_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
