"""Puts numbers into sentences: `1 row has`, `2 rows have`, `1 of 8 rows has`."""


def number_of(number: int, noun: str) -> str:
    """Returns the number with its noun: `1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def part_of(number: int, total: int, noun: str) -> str:
    """Returns a part of a total: `1 of 8 rows`."""
    return f"{number} of {number_of(total, noun)}"


def choose_verb(number: int, singular: str, plural: str) -> str:
    """Returns the form of a verb that agrees with the number."""
    return singular if number == 1 else plural
