"""Builds the frame of a multipart form that has one file after its fields. No I/O."""

import secrets
from collections.abc import Mapping
from typing import NamedTuple


class FormFrame(NamedTuple):
    """The bytes before and after the file."""

    content_type: str
    head: bytes
    tail: bytes

    def compute_size(self, file_bytes: int) -> int:
        """Returns the size of the whole body in bytes."""
        return len(self.head) + file_bytes + len(self.tail)


def build_form_frame(fields: Mapping[str, str], boundary: str | None = None) -> FormFrame:
    """Builds the frame of a form with `fields` in their order, and the file as `file`.

    The object store to which Pinterest's upload URL leads requires that the file comes last.
    """
    boundary = boundary or f"pinflow-{secrets.token_hex(16)}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escape(name)}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="video.mp4"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return FormFrame(
        f"multipart/form-data; boundary={boundary}",
        "".join(parts).encode(),
        f"\r\n--{boundary}--\r\n".encode(),
    )


def _escape(name: str) -> str:
    """Escapes a field's name as browsers do (HTML standard, multipart/form-data)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
