"""HTTP models of a dry run."""

from typing import Any
from uuid import UUID

from services.publisher.pins.dry_run.report import CheckName, CheckStatus, Report
from shared.http.models import ApiModel


class PinValidationCheck(ApiModel):
    """One check of a dry run."""

    name: CheckName
    status: CheckStatus
    code: str | None = None
    """The code of the error or warning. Null if the check passed or was skipped."""
    message: str
    """The result of the check in words."""
    remediation: str | None = None
    """The next step to take. Null if none is needed."""
    details: dict[str, Any] | None = None
    """Further fields of the error, for example `errors`. Null if there are none."""


class PinValidationResponse(ApiModel):
    """The report of a dry run. Nothing was stored or published."""

    valid: bool
    """True if no check failed: the real request would be accepted."""
    dry_run: bool = True
    """Always true."""
    checks: list[PinValidationCheck]
    """The result of each check."""
    resolved: dict[str, Any] | None = None
    """The content as it would be stored. Null if a field is invalid."""
    existing_pin_id: UUID | None = None
    """The pin that already has the idempotency key. Null if the key is free."""
    headroom: dict[str, Any] | None = None
    """Always null: Pinflow has no quota."""

    @classmethod
    def from_report(cls, report: Report) -> "PinValidationResponse":
        checks = [PinValidationCheck(**check._asdict()) for check in report.checks]
        return cls(
            valid=report.valid,
            checks=checks,
            resolved=report.resolved,
            existing_pin_id=report.existing_pin_id,
        )
