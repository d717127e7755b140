"""Puts numbers into sentences: `1 row has`, `2 rows have`."""


def count(number: int, noun: str) -> str:
    """Returns the number with its noun: `1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def choose_verb(number: int, singular: str, plural: str) -> str:
    """Returns the form of a verb that agrees with the number."""
    return singular if number == 1 else plural
