"""Remembers the last requests, for tests that check what Pinflow sends. Secrets are left out."""

import json
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

MAX_REQUESTS = 10_000
MAX_TEXT = 1000
SECRET_FIELDS = frozenset({"code", "refresh_token", "client_secret", "access_token"})
HIDDEN = "hidden"


class RequestLog:
    """Holds the last MAX_REQUESTS requests in memory, the oldest first."""

    def __init__(self) -> None:
        self._requests: deque[dict[str, Any]] = deque(maxlen=MAX_REQUESTS)

    def record(
        self,
        method: str,
        path: str,
        *,
        operation: str | None,
        account_id: str | None,
        query: Mapping[str, str],
        media_type: str,
        user_agent: str,
        body: bytes,
        status: int | None,
        time: float,
    ) -> None:
        """Adds a request. `operation` is None for an unknown path, `status` without an answer."""
        self._requests.append(
            {
                "method": method,
                "path": path,
                "operation": operation,
                "account_id": account_id,
                "query": _hide(dict(query)),
                "content_type": media_type or None,
                "user_agent": user_agent,
                "body": _hide(parse_body(media_type, body)),
                "status": status,
                "time": time,
            }
        )

    def list(self) -> list[dict[str, Any]]:
        return list(self._requests)

    def clear(self) -> None:
        self._requests.clear()


def parse_body(media_type: str, body: bytes) -> Any:
    """Returns None for a body that is neither JSON nor a form."""
    try:
        match media_type.partition(";")[0].strip().lower():
            case "application/json":
                return json.loads(body)
            case "application/x-www-form-urlencoded":
                return dict(parse_qsl(body.decode(), keep_blank_values=True))
            case _:
                return None
    except ValueError:
        return None


def _hide(value: Any) -> Any:
    """Hides secrets and shortens long texts, which may be images."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if name in SECRET_FIELDS else _hide(part) for name, part in value.items()
        }
    if isinstance(value, list):
        return [_hide(part) for part in value]
    return value[:MAX_TEXT] if isinstance(value, str) else value
