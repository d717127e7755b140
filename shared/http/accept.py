"""Reads the header Accept (RFC 9110). No I/O."""

from collections.abc import Iterable, Mapping


def parse_accept(headers: Iterable[str]) -> dict[str, float]:
    """Returns the quality of each media range of the headers. Empty: everything is accepted."""
    return dict(
        _parse_range(item) for value in headers for item in value.split(",") if item.strip()
    )


def find_quality(offer: str, ranges: Mapping[str, float]) -> float:
    """Returns the quality of the most specific range that matches the media type."""
    for candidate in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0


def _parse_range(text: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return media_type.lower(), quality
