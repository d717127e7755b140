"""Defines the claims and entries of the ledger: requests by topic and over HTTP that have a key."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from services.ingest.ids import new_job_id


class Channel(StrEnum):
    """The way on which a request with a key came. Each channel has keys of its own."""

    TOPIC = "topic"
    HTTP = "http"
    RETRY = "retry"
    """A retry: status sends the failed rows of an import again."""


class RequestKey(NamedTuple):
    """A request's idempotency key. The sender chooses a request id within the workspace."""

    workspace_id: UUID
    request_id: str
    channel: Channel = Channel.TOPIC


class Claim(NamedTuple):
    """The job that a request becomes if it is the first with its key."""

    key: RequestKey
    body_hash: bytes
    job_id: UUID
    accepted_at: datetime


class LedgerEntry(NamedTuple):
    """The ledger's entry of a key: the first claim, made by any process."""

    body_hash: bytes
    job_id: UUID
    accepted_at: datetime
    is_committed: bool
    decision: bytes | None = None
    """The serialized decision (services/ingest/ledger_codec.py). None until it is made, and again
    after the request is committed.
    """
    answer: bytes | None = None
    """The ImportAccepted of a committed request over HTTP, for the requests that repeat it."""


class LeasedEntry(NamedTuple):
    """The ledger's entry of a request over HTTP, and the lease of an attempt at the request."""

    entry: LedgerEntry
    lease: datetime | None
    """The end of the attempt's lease on the key, by which the ledger recognizes the attempt.

    None if another attempt has the lease, or if the request is committed.
    """


def new_claim(key: RequestKey, body_hash: bytes) -> Claim:
    """Builds a claim with a new job id."""
    now = datetime.now(UTC)
    return Claim(key, body_hash, new_job_id(now), now)
