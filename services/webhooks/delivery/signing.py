"""Signs requests as PinBridge does, and as Standard Webhooks does (standardwebhooks.com)."""

import base64
import binascii
import hmac
from hashlib import sha256

STANDARD_PREFIX = "whsec_"


def pinbridge_signature(secret: str, body: bytes) -> str:
    """Computes the raw body's HMAC-SHA256 in hexadecimal, as PinBridge's receivers check it."""
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def standard_signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Signs id, time and body, so that nobody can replay an old request as a new one."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return (
        "v1," + base64.b64encode(hmac.new(standard_key(secret), signed, sha256).digest()).decode()
    )


def standard_key(secret: str) -> bytes:
    """Decodes the base64 after `whsec_`. A secret without that prefix is its own key.

    Raises ValueError if the rest is not base64.
    """
    if not secret.startswith(STANDARD_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the text after whsec_ must be base64") from None
    if not key:
        raise ValueError("the text after whsec_ must not be empty")
    return key


def signed_headers(
    secret: str, *, event_name: str, event_id: str, delivery_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Builds the headers of both signature schemes."""
    return {
        "X-PinBridge-Event": event_name,
        "X-PinBridge-Delivery-ID": delivery_id,
        "X-PinBridge-Signature": pinbridge_signature(secret, body),
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": standard_signature(secret, event_id, timestamp, body),
    }
