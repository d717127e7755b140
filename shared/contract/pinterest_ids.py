"""Recognizes ids of Pinterest."""


def is_pinterest_id(value: str) -> bool:
    """Returns whether Pinterest may have an object with this id: it consists of digits only."""
    return value.isascii() and value.isdigit()
