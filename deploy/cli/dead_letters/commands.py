"""Commands that list, show and replay dead letters: records that no service could process."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import UUID

import typer

from deploy.cli.counts import choose_verb, number_of
from deploy.cli.dead_letters import tables as letter_tables
from deploy.cli.dead_letters.filters import (
    CodeFilter,
    DeadLetterFilter,
    ServiceFilter,
    TopicFilter,
    build_histogram,
)
from deploy.cli.dead_letters.model import (
    MAX_REPLAYS,
    DeadLetterName,
    ReplayMarker,
    StoredDeadLetter,
)
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.options import AsJson, Yes, time_option
from deploy.cli.progress import build_progress
from deploy.cli.tables import print_json

if TYPE_CHECKING:
    from deploy.cli.dead_letters.backend import ReplayPlan
    from deploy.cli.dead_letters.operations import SelectedLetters

letters = typer.Typer(
    no_args_is_help=True,
    help=(
        "See and replay dead letters: records that a service could not process. Remove the cause "
        "before you replay them."
    ),
)

Topic = Annotated[
    TopicFilter | None, typer.Option("--topic", help="Only dead letters of records on this topic.")
]
ByService = Annotated[
    ServiceFilter | None,
    typer.Option("--service", help="Only dead letters that this service wrote."),
]
Code = Annotated[
    CodeFilter | None, typer.Option("--code", help="Only dead letters with this error code.")
]
Since = Annotated[
    str | None, time_option("--since", "Only dead letters written at this time or later")
]
Workspace = Annotated[
    UUID | None,
    typer.Option(
        "--workspace",
        help="Only dead letters of this workspace. Excludes records whose workspace can't be read.",
    ),
]
Job = Annotated[
    UUID | None,
    typer.Option(
        "--job", help="Only dead letters of this import. Excludes records whose job can't be read."
    ),
]


@letters.command("list")
def list_letters(
    topic: Topic = None,
    service: ByService = None,
    code: Code = None,
    since: Since = None,
    workspace: Workspace = None,
    job: Job = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Show at most this many dead letters.")
    ] = 50,
    *,
    oldest: Annotated[
        bool, typer.Option("--oldest", help="Show the oldest first. Default: the newest first.")
    ] = False,
    replayed: Annotated[
        bool, typer.Option("--replayed", help="Also show dead letters that were replayed.")
    ] = False,
    as_histogram: Annotated[
        bool,
        typer.Option(
            "--histogram", help="Show counts by topic, service and error code instead of a list."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the dead letters that were not replayed.

    A dead letter's name is its partition and offset on the topic dead-letters,
    like 0:17.
    """
    selected = _find(_build_filter([], topic, service, code, since, workspace, job))
    listed = selected.letters if replayed else selected.not_replayed()
    listed.sort(key=lambda letter: (letter.given_up_at, letter.name), reverse=not oldest)
    if as_histogram:
        groups = build_histogram(listed)
        print_json(groups) if as_json else letter_tables.print_histogram(groups)
    elif as_json:
        print_json([_document(letter, selected.markers) for letter in listed[:limit]])
    else:
        letter_tables.print_letters(
            listed, limit=limit, replayed=len(selected.letters) - len(listed)
        )


@letters.command("show")
def show_letter(
    name: Annotated[
        str, typer.Argument(help="The dead letter's name, partition:offset, from the list.")
    ],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print only the original value, with all stored bytes.")
    ] = False,
) -> None:
    """Show one dead letter: its source, its error, its headers and its original bytes."""
    letter_name = _parse_name(name)
    content = _load_backend().fetch(letter_name)
    if content is None:
        _fail_for_missing([letter_name])
    if raw:
        sys.stdout.buffer.write(content.value)
    else:
        letter_tables.print_letter(content.letter, content.headers, content.key, content.value)


@letters.command("replay")
def replay_letters(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Names of dead letters, partition:offset. Default: all that the filters select.",
        ),
    ] = None,
    topic: Topic = None,
    service: ByService = None,
    code: Code = None,
    since: Since = None,
    workspace: Workspace = None,
    job: Job = None,
    limit: Annotated[
        int | None,
        typer.Option("--max", min=1, help="Replay at most this many, the oldest first."),
    ] = None,
    max_replays: Annotated[
        int,
        typer.Option(
            "--max-replays",
            min=1,
            help="Skip dead letters that were replayed this many times or more (quarantine).",
        ),
    ] = MAX_REPLAYS,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also replay dead letters in quarantine.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the plan and the errors, but do not replay."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters to their topic again, or as a new import if their row has a result.

    You can stop a replay and repeat it: no dead letter is lost. A dead letter
    may be replayed twice if the replay was stopped before the dead letter was
    marked, or if two replays run at the same time. That is harmless, because
    services are idempotent.

    Exit codes:
    0: all were replayed
    1: some were not
    2: nothing was done
    3: a server did not answer, or you stopped the command; try again
    """
    letter_filter = _build_filter(names or [], topic, service, code, since, workspace, job)
    plan = _load_backend().make_plan(
        _find(letter_filter), max_replays=max_replays, force=force, limit=limit
    )
    if not dry_run and plan.replay_count:
        _confirm(plan, yes=yes)
        _replay(plan)
    _report(plan, is_done=not dry_run, as_json=as_json)
    if not dry_run and plan.replay_count < len(plan.actions):
        raise typer.Exit(ExitCode.LETTERS_NOT_REPLAYED if plan.replay_count else ExitCode.REFUSED)


def _confirm(plan: "ReplayPlan", *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail(
            f"{number_of(plan.replay_count, 'dead letter')} would be replayed. Nothing was "
            "replayed, because the command can't ask you here. Check the plan with --dry-run, then "
            "add --yes."
        )
    letter_tables.print_plan(
        plan.count_actions(), [planned.letter for planned in plan.actions], is_done=False
    )
    if not typer.confirm(f"Replay {number_of(plan.replay_count, 'dead letter')}?"):
        fail("Nothing was replayed.")


def _replay(plan: "ReplayPlan") -> None:
    with build_progress("dead letters") as progress:
        task = progress.add_task("replay", total=plan.replay_count)
        try:
            _load_backend().replay(plan, lambda count: progress.advance(task, count))
        except KeyboardInterrupt:
            fail(
                "\nThe replay was stopped. No dead letter is lost. Run the same command again to "
                "replay the rest.",
                ExitCode.UNAVAILABLE,
            )


def _report(plan: "ReplayPlan", *, is_done: bool, as_json: bool) -> None:
    planned_letters = [planned.letter for planned in plan.actions]
    counts = plan.count_actions()
    if as_json:
        print_json(
            {
                "done": is_done,
                "counts": counts,
                "reasons": build_histogram(planned_letters),
                "letters": [planned.document() for planned in plan.actions],
            }
        )
        return
    letter_tables.print_plan(counts, planned_letters, is_done=is_done)
    if replayed_before := len(plan.selected.letters) - len(plan.selected.not_replayed()):
        typer.echo(
            f"{number_of(replayed_before, 'dead letter')} "
            f"{choose_verb(replayed_before, 'was', 'were')} left out: replayed before."
        )
    if is_done and "as a new import" in counts:
        typer.echo("See the new imports with an API key of their workspace: pinflow imports list")


def _find(letter_filter: DeadLetterFilter) -> "SelectedLetters":
    selected: SelectedLetters = _load_backend().find(letter_filter)
    if missing := letter_filter.names - {letter.name for letter in selected.letters}:
        _fail_for_missing(sorted(missing))
    return selected


def _build_filter(
    names: Sequence[str],
    topic: TopicFilter | None,
    service: ServiceFilter | None,
    code: CodeFilter | None,
    since: str | None,
    workspace: UUID | None,
    job: UUID | None,
) -> DeadLetterFilter:
    start = datetime.fromisoformat(since) if since else None
    return DeadLetterFilter(
        frozenset(map(_parse_name, names)), topic, service, code, start, workspace, job
    )


def _parse_name(text: str) -> DeadLetterName:
    try:
        return DeadLetterName.from_text(text)
    except ValueError as error:
        fail(f"{error}")


def _fail_for_missing(names: Sequence[DeadLetterName]) -> NoReturn:
    missing = ", ".join(map(str, names))
    fail(
        f"There is no dead letter {missing}, or your filters exclude it. See all with: pinflow "
        "dead-letters list --replayed"
    )


def _document(
    letter: StoredDeadLetter, markers: "Mapping[DeadLetterName, ReplayMarker]"
) -> dict[str, Any]:
    marker = markers.get(letter.name)
    return {
        **letter.document(),
        "replayed_at": marker.replayed_at if marker else None,
        "replayed_as": marker.replayed_as if marker else None,
    }


def _load_backend() -> ModuleType:
    # Not at the top: the import takes a second, and other commands do not need it
    from deploy.cli.dead_letters import backend as letters_backend  # noqa: PLC0415

    return letters_backend
