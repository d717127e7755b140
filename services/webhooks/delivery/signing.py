"""Signs requests as PinBridge does, and as Standard Webhooks does (standardwebhooks.com)."""

import base64
import binascii
import hmac
from hashlib import sha256

STANDARD_PREFIX = "whsec_"


def pinbridge_signature(secret: str, body: bytes) -> str:
    """Computes the HMAC-SHA256 of the raw body in hexadecimal, as PinBridge's receivers do."""
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def standard_signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Signs id, time and body, so that an old request can't be sent again as a new one."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return (
        "v1," + base64.b64encode(hmac.new(standard_key(secret), signed, sha256).digest()).decode()
    )


def standard_key(secret: str) -> bytes:
    """Decodes the base64 after `whsec_`. The key of any other secret is its own bytes.

    Raises ValueError if that is not base64.
    """
    if not secret.startswith(STANDARD_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("what follows whsec_ is not base64") from None
    if not key:
        raise ValueError("nothing follows whsec_")
    return key


def signed_headers(
    secret: str, *, event: str, event_id: str, delivery_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    return {
        "X-PinBridge-Event": event,
        "X-PinBridge-Delivery-ID": delivery_id,
        "X-PinBridge-Signature": pinbridge_signature(secret, body),
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": standard_signature(secret, event_id, timestamp, body),
    }
