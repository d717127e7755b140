"""Summarizes a run, as JSON and as text."""

from collections import Counter, defaultdict
from statistics import median
from typing import Any

from tests.tools.chaos.history import (
    CancelStep,
    DryRunStep,
    History,
    ImportStep,
    RaceStep,
    RequestOutcome,
    TouchStep,
)
from tests.tools.chaos.violations import Effect, Violation

MAX_SHOWN = 20


def build_summary(
    history: History, violations: list[Violation], *, brokers: int, seconds: float, died: list[str]
) -> dict[str, Any]:
    outcomes = Counter(submission.outcome for submission in history.submissions)
    recovery_seconds = defaultdict(list)
    for fault in history.faults:
        recovery_seconds[fault.kind if " + " not in fault.kind else "two at once"].append(
            fault.recovery_seconds
        )
    return {
        "seed": history.seed,
        "brokers": brokers,
        "seconds": round(seconds),
        "imports": len(history.submissions),
        "rows": history.rows,
        "single_pins": len(history.pins),
        "outcomes": {kind.value: outcomes[kind] for kind in RequestOutcome},
        "polls": sum(len(polls) for polls in history.polls.values()),
        "faults": sum(1 + fault.kind.count(" + ") for fault in history.faults),
        "restores": len(history.restores),
        "forgotten_pins": sum(len(restore.forgotten_pins) for restore in history.restores),
        "forgotten_requests": sum(len(restore.forgotten_requests) for restore in history.restores),
        "campaigns": _count_steps(history),
        "rows_seen": sum(len(rows) for rows in history.results.values()),
        "recovery_seconds": {
            kind: {
                "times": len(seconds),
                "median": round(median(seconds), 1),
                "max": round(max(seconds), 1),
            }
            for kind, seconds in sorted(recovery_seconds.items())
        },
        "ended_on_their_own": Counter(died),
        "lost": sum(violation.effect is Effect.LOST for violation in violations),
        "duplicated": sum(violation.effect is Effect.DUPLICATED for violation in violations),
        "otherwise_wrong": sum(violation.effect is Effect.WRONG for violation in violations),
        "violations": [str(violation) for violation in violations],
    }


def _count_steps(history: History) -> dict[str, int]:
    """Counts what the campaigns did, and how many kills were among the faults."""
    steps = [step for campaign in history.campaigns for step in campaign.steps]
    undos = [undo for campaign in history.campaigns for undo in campaign.undos()]
    imports = [step for step in steps if isinstance(step, ImportStep)]
    cancels = [step for step in steps if isinstance(step, CancelStep)]
    jobs = {step.submission.job_id for step in imports}
    canceled = {
        str(job_id): sum(result.error_code == "canceled" for result in results.values())
        for job_id, results in history.results.items()
        if job_id in jobs
    }
    return {
        "keyed_imports": sum(step.submission.parent_id is None for step in imports),
        "retries": sum(step.submission.parent_id is not None for step in imports),
        "rows": sum(len(step.rows) for step in imports),
        "dry_runs": sum(isinstance(step, DryRunStep) for step in steps),
        "cancels": len(cancels),
        "cancels_of_running_imports": sum(canceled[step.job_id] > 0 for step in cancels),
        "canceled_rows": sum(canceled.values()),
        "canceled_schedules": sum(
            len(answer.canceled) for step in cancels for answer in step.answers[:1]
        ),
        "undos": len(undos),
        "undone_rows": sum(len(undo.answers[0].undone) for undo in undos if undo.answers),
        "left_rows": sum(len(undo.answers[0].left) for undo in undos if undo.answers),
        "changes": sum(isinstance(step, TouchStep) for step in steps),
        "undos_amid_an_edit": sum(isinstance(step, RaceStep) for step in steps),
        "kills": sum(
            kind.startswith("kill ") for fault in history.faults for kind in fault.kind.split(" + ")
        ),
    }


def format_report(report: dict[str, Any]) -> str:
    outcomes = ", ".join(f"{count} {kind}" for kind, count in report["outcomes"].items())
    lines = [
        (
            f"{report['imports']} imports of {report['rows']} rows ({outcomes}), "
            f"{report['single_pins']} single pins, {report['faults']} faults"
        ),
        "  seconds from the fault's end to recovery     times  median   max",
        *(
            f"  {kind:45} {seconds['times']:4}  {seconds['median']:6}  {seconds['max']:4}"
            for kind, seconds in report["recovery_seconds"].items()
        ),
    ]
    if report["campaigns"]["keyed_imports"]:
        counts = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in report["campaigns"].items()
        )
        lines.append(f"  campaigns: {counts}")
    if report["ended_on_their_own"]:
        ended = ", ".join(
            f"{name} {count} times" for name, count in report["ended_on_their_own"].items()
        )
        lines.append(f"  ended by themselves and were restarted: {ended}")
    if report["restores"]:
        forgotten = (
            f"{report['forgotten_pins']} direct pins and {report['forgotten_requests']} request ids"
        )
        lines.append(f"  {report['restores']} restores of Postgres, which lost {forgotten}")
    lines += [f"  {violation}" for violation in report["violations"][:MAX_SHOWN]]
    lines.append(
        f"{report['lost']} lost, {report['duplicated']} duplicated, {report['otherwise_wrong']} "
        f"otherwise wrong (seed {report['seed']})"
    )
    return "\n".join(lines)
