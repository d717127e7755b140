"""Encodes and parses a header of outcomes: the end offsets of their batch. No I/O."""

from collections.abc import Mapping
from typing import TypeAlias

POSITIONS_HEADER = "pinflow-positions"
"""The name of the header, which outcome_history_parsing.py reads."""
EndOffsets: TypeAlias = Mapping[int, int]
"""The offset after a batch's last row, by partition of `imports`."""


def encode_positions(end_offsets: EndOffsets) -> bytes:
    """Encodes offsets by partition: `0:170,3:99`."""
    return ",".join(
        f"{partition}:{offset}" for partition, offset in sorted(end_offsets.items())
    ).encode()


def parse_positions(header: bytes) -> dict[int, int]:
    """Decodes the header that `encode_positions` built. Raises ValueError."""
    pairs = (part.split(":") for part in header.decode().split(","))
    return {int(partition): int(offset) for partition, offset in pairs}
