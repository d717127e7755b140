"""Counts what commands on imports do with pins."""

from collections import Counter
from collections.abc import Iterable

from services.publisher.imports.rules import CancelAction, LeftReason, UndoAction
from shared.runtime import metrics


def count_undo(decisions: Iterable[UndoAction | LeftReason]) -> None:
    for decision, count in Counter(decisions).items():
        if isinstance(decision, UndoAction):
            metrics.PINS_UNDONE.labels(decision).inc(count)
        else:
            metrics.PINS_LEFT.labels("undo", decision).inc(count)


def count_cancellation(decisions: Iterable[CancelAction | LeftReason]) -> None:
    for decision, count in Counter(decisions).items():
        if isinstance(decision, LeftReason):
            metrics.PINS_LEFT.labels("cancel", decision).inc(count)
        elif decision is CancelAction.CANCEL:
            metrics.SCHEDULES_CANCELED.inc(count)
        elif decision is CancelAction.WITHDRAW:
            metrics.PINS_WITHDRAWN.inc(count)
