"""Runs campaigns: imports that are checked, canceled, retried, changed, undone and sent again.

Each campaign is one client with keys of its own, so the checker knows what every key must have.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from deploy.administration import NewWorkspace
from shared.contract.events import OnExisting
from shared.contract.schedule_ids import derive_schedule_id
from tests.acceptance.rows import rows_for
from tests.tools.chaos.api_client import ApiClient, Document
from tests.tools.chaos.history import (
    Campaign,
    CancelStep,
    Channel,
    Expected,
    History,
    ImportStep,
    RaceStep,
    Result,
    Row,
    SteeredRow,
    Submission,
    Timing,
    TouchKind,
    TouchStep,
    UndoStep,
)
from tests.tools.chaos.steering_client import NeverAnswered, SteeringClient

KEYS = 300
"""The number of keys of a campaign. Its imports take some of them again and again."""
SIZES = (2, 10, 40, 120, 300)
ROW_KINDS = {"now": 50, "soon": 10, "far": 20, "shared": 8, "invalid": 6, "account": 3, "board": 3}
ON_EXISTING = {OnExisting.REPORT: 50, OnExisting.UPDATE: 25, OnExisting.REVIVE: 25}
DRY_RUN_SHARE = 0.25
TWICE_SHARE = 0.35
REUSED_SHARE = 0.1
CANCEL_SHARE = 0.4
CANCEL_SCHEDULES_SHARE = 0.5
CANCEL_DELAY_SECONDS = (-0.3, 0.3)
"""The delay from the 202. A negative one is none: most imports settle within 0.1 s."""
TOUCH_SHARE = 0.4
MAX_TOUCHES = 3
RETRY_SHARE = 0.6
UNDO_SHARE = 0.6
RACE_SHARE = 0.3
ENDED_SECONDS = 200.0
POLL_SECONDS = 0.3
FAR = timedelta(days=30)
SOON_SECONDS = (1.0, 10.0)


class CampaignClient:
    """Runs one campaign. Its choices follow from `rng`."""

    def __init__(
        self,
        campaign: Campaign,
        workspace: NewWorkspace,
        client: SteeringClient,
        api: ApiClient,
        history: History,
        *,
        name: str,
        shared_key: Callable[[random.Random], str],
        rng: random.Random,
    ) -> None:
        self._campaign = campaign
        self._workspace = workspace
        self._client = client
        self._api = api
        self._history = history
        self._name = name
        self._shared_key = shared_key
        self._rng = rng
        self._numbers = iter(range(10**9))
        self._keys = [f"{name}-{number}" for number in range(KEYS)]
        self._ended: list[ImportStep] = []

    async def run_round(self) -> None:
        """Imports some rows, steers the import at random, and perhaps undoes an import."""
        try:
            await self._run_round()
        except NeverAnswered:
            self._campaign.is_broken = True

    async def _run_round(self) -> None:
        rng, steps = self._rng, self._campaign.steps
        on_existing = rng.choices(list(ON_EXISTING), list(ON_EXISTING.values()))[0]
        rows, documents = self._new_rows()
        if rng.random() < DRY_RUN_SHARE:
            steps.append(await self._client.check(rows, on_existing, documents))
        step = await self._import(rows, documents, on_existing)
        is_settled = not step.submission.is_canceled
        if is_settled and rng.random() < TOUCH_SHARE:
            await self._touch(step)
        if rng.random() < RETRY_SHARE:
            await self._retry(step)
        if rng.random() < UNDO_SHARE:
            await self._undo(self._ended.pop(rng.randrange(len(self._ended))))

    def _new_rows(self) -> tuple[list[SteeredRow], list[Document]]:
        """Builds the rows of an import. The first has a key that no other import begins with."""
        count = self._rng.choice(SIZES)
        keys = [self._new_key(), *self._rng.sample(self._keys, min(count, len(self._keys)))]
        pairs = [
            self._new_row(key, "now" if number == 0 else None) for number, key in enumerate(keys)
        ]
        return [row for row, _ in pairs], [document for _, document in pairs]

    def _new_row(self, key: str, kind: str | None = None) -> tuple[SteeredRow, Document]:
        rng = self._rng
        kind = kind or rng.choices(list(ROW_KINDS), list(ROW_KINDS.values()))[0]
        expected, timing, title = Expected.PUBLISHED, Timing.NOW, f"Lamp {next(self._numbers)}"
        fields: Document = {}
        match kind:
            case "soon":
                timing = Timing.SOON
                fields["run_at"] = _in(timedelta(seconds=rng.uniform(*SOON_SECONDS)))
            case "far":
                timing = Timing.FAR
                fields["run_at"] = _in(FAR)
            case "shared":
                key = self._shared_key(rng)
            case "invalid":
                expected, key, title = Expected.INVALID, self._new_key(), "x" * 101
            case "account":
                expected, key = Expected.NO_ACCOUNT, self._new_key()
                fields["account_id"] = str(uuid4())
            case "board":
                expected, key = Expected.NO_BOARD, self._new_key()
                fields["board_id"] = "no-such-board"
        (document,) = rows_for(
            self._workspace, 1, prefix="", **{"idempotency_key": key, "title": title, **fields}
        )
        return SteeredRow(key, expected, title, timing, kind == "shared"), document

    def _new_key(self) -> str:
        return f"{self._name}-new-{next(self._numbers)}"

    async def _import(
        self, rows: list[SteeredRow], documents: list[Document], on_existing: OnExisting
    ) -> ImportStep:
        rng = self._rng
        channel = rng.choice((Channel.JSON, Channel.CSV))
        sent = [Row(row.key, row.expected, row.timing is not Timing.NOW) for row in rows]
        submission = Submission(self._campaign.workspace, channel, sent, on_existing=on_existing)
        key = f"{self._name}-{next(self._numbers)}"
        copies = 2 if rng.random() < TWICE_SHARE else 1
        await self._client.import_rows(submission, documents, key, copies=copies)
        step = ImportStep(submission, rows)
        await self._finish(step)
        if rng.random() < REUSED_SHARE:
            _, document = self._new_row(self._new_key(), "now")
            await self._client.reuse_key([document], key)
        return step

    async def _finish(self, step: ImportStep) -> None:
        """Perhaps cancels an accepted import, and waits until it has ended."""
        job_id = step.submission.job_id
        assert job_id is not None
        cancel = None
        if self._rng.random() < CANCEL_SHARE:
            step.submission.is_canceled = True
            cancel = CancelStep(job_id, self._rng.random() < CANCEL_SCHEDULES_SHARE)
            await asyncio.sleep(max(0.0, self._rng.uniform(*CANCEL_DELAY_SECONDS)))
            for _ in range(2 if self._rng.random() < TWICE_SHARE else 1):
                await self._client.cancel(cancel)
        if not await self._api.poll(job_id, seconds=ENDED_SECONDS, every=POLL_SECONDS):
            self._history.unexpected_answers.append(f"job {job_id} does not end")
            raise NeverAnswered
        self._campaign.steps.append(step)
        if cancel is not None:
            self._campaign.steps.append(cancel)
        self._ended.append(step)

    async def _retry(self, parent: ImportStep) -> None:
        """Sends the failed rows again. Half of the invalid ones are corrected."""
        job_id = parent.submission.job_id
        assert job_id is not None
        results = self._history.results[job_id]
        rows, corrections = [], []
        for number, failed in enumerate(parent.rows, 1):
            if results[number].status != "failed":
                continue
            row = failed
            if row.expected is not Expected.PUBLISHED and self._rng.random() < 0.5:
                title = f"Mended {next(self._numbers)}"
                (valid,) = rows_for(self._workspace, 1, prefix="", title=title)
                names = ("account_id", "board_id", "title")
                corrections.append({"row_number": number, **{name: valid[name] for name in names}})
                row = row._replace(expected=Expected.PUBLISHED, title=title)
            rows.append(row)
        if not rows:
            return
        sent = [Row(row.key, row.expected, row.timing is not Timing.NOW) for row in rows]
        submission = Submission(
            self._campaign.workspace,
            parent.submission.channel,
            sent,
            parent_id=job_id,
            on_existing=parent.submission.on_existing,
        )
        body = {"corrections": corrections}
        copies = 2 if self._rng.random() < TWICE_SHARE else 1
        await self._client.retry(submission, body, copies=copies)
        await self._finish(ImportStep(submission, rows))

    async def _touch(self, step: ImportStep) -> None:
        """Edits, cancels or deletes some pins that the import has created."""
        created = self._created(step)
        for row, result in self._rng.sample(created, min(MAX_TOUCHES, len(created))):
            if row.timing is Timing.NOW:
                kind = TouchKind.DELETE
            elif row.timing is Timing.FAR and result.is_schedule:
                kind = self._rng.choice(list(TouchKind))
            else:
                continue
            await self._change(kind, row, result)

    async def _change(self, kind: TouchKind, row: SteeredRow, result: Result) -> None:
        sent_at, title = datetime.now(UTC), f"Edited {next(self._numbers)}"
        path = _find_path(result)
        match kind:
            case TouchKind.EDIT:
                await self._client.change("PATCH", path, {200}, json={"title": title})
            case TouchKind.CANCEL:
                await self._client.change("POST", f"{path}/cancel", {200})
            case TouchKind.DELETE:
                await self._client.change("DELETE", path, {204, 404})
        self._campaign.steps.append(
            TouchStep(
                kind,
                row.key,
                sent_at,
                datetime.now(UTC),
                title if kind is TouchKind.EDIT else None,
            )
        )

    async def _undo(self, target: ImportStep) -> None:
        """Undoes an import, once or twice at once, and perhaps again. Sometimes amid an edit."""
        job_id = target.submission.job_id
        assert job_id is not None
        undo = UndoStep(job_id)
        copies = 2 if self._rng.random() < TWICE_SHARE else 1
        if self._rng.random() < 0.3:
            await self._client.plan_undo(job_id)
        far = [
            (row, result)
            for row, result in self._created(target)
            if row.timing is Timing.FAR and result.is_schedule
        ]
        if far and self._rng.random() < RACE_SHARE:
            await self._undo_amid_edit(undo, copies, *self._rng.choice(far))
        else:
            await self._client.undo(undo, copies=copies)
            self._campaign.steps.append(undo)
        if self._rng.random() < TWICE_SHARE:
            await self._client.undo(undo, copies=1)

    async def _undo_amid_edit(
        self, undo: UndoStep, copies: int, row: SteeredRow, result: Result
    ) -> None:
        title, sent_at = f"Edited {next(self._numbers)}", datetime.now(UTC)
        # 409: it was canceled before
        answer, _ = await asyncio.gather(
            self._client.change(
                "PATCH", _find_path(result), {200, 404, 409}, json={"title": title}
            ),
            self._client.undo(undo, copies=copies),
        )
        edit = TouchStep(TouchKind.EDIT, row.key, sent_at, datetime.now(UTC), title)
        self._campaign.steps.append(RaceStep(undo, edit, answer.status_code == 200))

    def _created(self, step: ImportStep) -> list[tuple[SteeredRow, Result]]:
        """Returns the rows of its own keys that the import has created."""
        results = self._history.results[str(step.submission.job_id)]
        return [
            (row, results[number])
            for number, row in enumerate(step.rows, 1)
            if results[number].status == "created" and not row.is_shared
        ]


def _find_path(result: Result) -> str:
    assert result.pin is not None
    if not result.is_schedule:
        return f"/v1/pins/{result.pin}"
    return f"/v1/schedules/{derive_schedule_id(UUID(result.pin))}"


def _in(delay: timedelta) -> str:
    return (datetime.now(UTC) + delay).isoformat()
