"""Reads the text below each field of a class from its source."""

import ast
import inspect
import textwrap
from itertools import pairwise


def read_field_docstrings(cls: type) -> dict[str, str]:
    """Returns the text below each annotated field, by the field's name.

    Fields of base classes are included. The texts need the source, so only documents have them.
    """
    descriptions: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] == cls.__module__.split(".")[0]:
            descriptions |= _read_own(base)
    return descriptions


def _read_own(cls: type) -> dict[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    statements = definition.body if isinstance(definition, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text)
        for field, below in pairwise(statements)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and (text := _read_text(below)) is not None
    }


def _read_text(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return None
