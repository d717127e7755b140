"""The parameters of an import, and the policy by which its rows are read."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from shared.contract.events import OnExisting, UploadParameters


class PastRunAt(StrEnum):
    """The treatment of a row whose `run_at` has passed when its import is accepted.

    - `publish`: it is published at once, with the warning `past_run_at`.
    - `fail`: it fails with `run_at_in_past`.
    """

    PUBLISH = "publish"
    FAIL = "fail"


class ImportParameters(NamedTuple):
    """The parameters that a client sends with an import."""

    strict: bool = False
    """Unknown fields fail their row."""
    timezone: str | None = None
    """The time zone of times without an offset, for example Europe/Berlin."""
    past_run_at: PastRunAt = PastRunAt.PUBLISH
    account: str | None = None
    """The id or name of the account of rows that name none."""
    encoding: str | None = None
    """The encoding of a CSV file. None: it is found out."""
    on_existing: OnExisting = OnExisting.REPORT

    def to_event(self) -> UploadParameters:
        """Returns the parameters as the import's upload is stored with them."""
        if self == _DEFAULTS:
            return _DEFAULTS_OF_UPLOAD
        return UploadParameters(
            strict=self.strict,
            timezone=self.timezone,
            past_run_at=None if self.past_run_at is PastRunAt.PUBLISH else self.past_run_at,
            account=(self.account or "").strip() or None,
            encoding=self.encoding,
            on_existing=self.on_existing,
        )


_DEFAULTS, _DEFAULTS_OF_UPLOAD = ImportParameters(), UploadParameters()


@dataclass(frozen=True, slots=True)
class ReadingPolicy:
    """The parameters in the form in which rows are read by them."""

    accepted_at: datetime
    """The time of the import. A `run_at` is compared with it."""
    strict: bool = False
    zone: ZoneInfo | None = None
    fails_past_run_at: bool = False
    account_id: UUID | None = None
    """The account of rows that name none."""
    permitted_accounts: Collection[UUID] | None = None
    """The accounts that the API key may publish to. None: all."""

    def permits(self, account_id: UUID) -> bool:
        return self.permitted_accounts is None or account_id in self.permitted_accounts

    def is_past(self, run_at: datetime | None) -> bool:
        return run_at is not None and run_at <= self.accepted_at

    def accepts(self, account_id: UUID, run_at: datetime | None) -> bool:
        """Returns whether a valid row with this account and time may be published."""
        return self.permits(account_id) and not (self.fails_past_run_at and self.is_past(run_at))
