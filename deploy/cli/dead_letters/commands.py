"""Dead letters: what no service could process, and what an operator makes of it."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.cli.dead_letters import tables as letter_tables
from deploy.cli.dead_letters.filters import (
    CodeFilter,
    DeadLetterFilter,
    ServiceFilter,
    TopicFilter,
    histogram,
    parse_since,
)
from deploy.cli.dead_letters.model import (
    MAX_REPLAYS,
    DeadLetterName,
    ReplayMarker,
    StoredDeadLetter,
)
from deploy.cli.exit_codes import ExitCode, fail
from deploy.cli.tables import print_json

if TYPE_CHECKING:
    from deploy.cli.dead_letters.backend import ReplayPlan
    from deploy.cli.dead_letters.operations import SelectedLetters

letters = typer.Typer(
    no_args_is_help=True,
    help=(
        "Records that no service could process: see them, and replay them once the cause is mended."
    ),
)

Topic = Annotated[TopicFilter | None, typer.Option("--topic", help="Only those from this topic.")]
ByService = Annotated[
    ServiceFilter | None, typer.Option("--service", help="Only those that this service gave up.")
]
Code = Annotated[CodeFilter | None, typer.Option("--code", help="Only those with this error code.")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="Only those given up since: a time, or 90s, 30m, 12h, 7d ago.",
    ),
]
Workspace = Annotated[
    UUID | None,
    typer.Option("--workspace", help="Only those that can be told to be of this workspace."),
]
Job = Annotated[
    UUID | None, typer.Option("--job", help="Only those that can be told to be of this job.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@letters.command("list")
def list_letters(
    topic: Topic = None,
    service: ByService = None,
    code: Code = None,
    when: Since = None,
    workspace: Workspace = None,
    job: Job = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    *,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first; else newest.")] = False,
    replayed: Annotated[
        bool, typer.Option("--replayed", help="Also those that have been replayed.")
    ] = False,
    as_histogram: Annotated[
        bool, typer.Option("--histogram", help="How many for each reason, instead of each.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Dead letters that wait for a decision; each is named by where it lies, partition:offset."""
    found = _find(_selection([], topic, service, code, when, workspace, job))
    wanted = found.letters if replayed else found.not_replayed()
    wanted.sort(key=lambda letter: (letter.given_up_at, letter.name), reverse=not oldest)
    if as_histogram:
        groups = histogram(wanted)
        print_json(groups) if as_json else letter_tables.print_histogram(groups)
    elif as_json:
        print_json([_document(letter, found.markers) for letter in wanted[:limit]])
    else:
        letter_tables.print_letters(wanted, shown=limit, replayed=len(found.letters) - len(wanted))


@letters.command("show")
def show_letter(
    name: Annotated[str, typer.Argument(help="partition:offset, as list shows it.")],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Only the original bytes, all of them.")
    ] = False,
) -> None:
    """One dead letter: where it was, why it was given up, what came with it, and its original
    bytes.
    """
    wanted = _name(name)
    content = _backend().fetch(wanted)
    if content is None:
        _fail_without([wanted])
    if raw:
        sys.stdout.buffer.write(content.value)
    else:
        letter_tables.print_letter(content.letter, content.headers, content.key, content.value)


@letters.command("replay")
def replay_letters(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="partition:offset; default: all that the filters take."
        ),
    ] = None,
    topic: Topic = None,
    service: ByService = None,
    code: Code = None,
    when: Since = None,
    workspace: Workspace = None,
    job: Job = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, help="At most so many, oldest first.")
    ] = None,
    max_replays: Annotated[
        int,
        typer.Option(
            "--max-replays", min=1, help="Leave those that were replayed so often: quarantine."
        ),
    ] = MAX_REPLAYS,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replay those in quarantine too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and why they are here.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again: to the topic they came from, or, if the row has settled, as a new
    import.

    A replay can be stopped and repeated: it loses nothing. A letter is replayed twice if the replay
    was stopped before it was marked, or if two replays run at the same time. That is harmless:
    services are idempotent. Exit code 0: all were replayed; 1: some stay; 2: nothing was done; 3:
    try again.
    """
    letter_filter = _selection(names or [], topic, service, code, when, workspace, job)
    plan = _backend().make_plan(
        _find(letter_filter), max_replays=max_replays, force=force, most=most
    )
    if not dry_run and plan.replayable:
        _confirm(plan, yes=yes)
        _replay(plan)
    _report(plan, done=not dry_run, as_json=as_json)
    if not dry_run and plan.replayable < len(plan.planned):
        raise typer.Exit(ExitCode.LETTERS_NOT_REPLAYED if plan.replayable else ExitCode.REFUSED)


def _confirm(plan: "ReplayPlan", *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail(
            f"This would replay {plan.replayable} dead letter(s). Look with --dry-run, then add "
            "--yes."
        )
    letter_tables.print_plan(plan.counts(), [one.letter for one in plan.planned], done=False)
    if not typer.confirm(f"Replay {plan.replayable}?"):
        fail("Nothing was replayed.")


def _replay(plan: "ReplayPlan") -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("letters"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("replay", total=plan.replayable)
        try:
            _backend().replay(plan, lambda count: progress.advance(task, count))
        except KeyboardInterrupt:
            fail(
                "\nStopped; no letter is lost. Run the same command again for the rest.",
                ExitCode.UNAVAILABLE,
            )


def _report(plan: "ReplayPlan", *, done: bool, as_json: bool) -> None:
    letters_of_plan = [one.letter for one in plan.planned]
    if as_json:
        told = [one.document() for one in plan.planned]
        print_json(
            {
                "done": done,
                "counts": plan.counts(),
                "reasons": histogram(letters_of_plan),
                "letters": told,
            }
        )
        return
    letter_tables.print_plan(plan.counts(), letters_of_plan, done=done)
    if before := len(plan.found.letters) - len(plan.found.not_replayed()):
        typer.echo(f"{before} of those that were meant had been replayed before.")
    if done and "as a new import" in plan.counts():
        typer.echo("The new imports are shown, in their workspace, by: pinflow imports list")


def _find(letter_filter: DeadLetterFilter) -> "SelectedLetters":
    found: SelectedLetters = _backend().find(letter_filter)
    if missing := letter_filter.names - {letter.name for letter in found.letters}:
        _fail_without(sorted(missing))
    return found


def _selection(
    names: Sequence[str],
    topic: TopicFilter | None,
    service: ServiceFilter | None,
    code: CodeFilter | None,
    when: str | None,
    workspace: UUID | None,
    job: UUID | None,
) -> DeadLetterFilter:
    try:
        begin = parse_since(when, datetime.now(UTC)) if when else None
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    return DeadLetterFilter(
        frozenset(map(_name, names)), topic, service, code, begin, workspace, job
    )


def _name(text: str) -> DeadLetterName:
    try:
        return DeadLetterName.from_text(text)
    except ValueError as error:
        fail(f"{error}")


def _fail_without(names: Sequence[DeadLetterName]) -> NoReturn:
    wanted = ", ".join(map(str, names))
    fail(
        f"There is no dead letter {wanted}, or the filters don't take it. All there are: pinflow "
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


def _backend() -> ModuleType:
    # A second, which other commands need not wait
    from deploy.cli.dead_letters import backend as letters_backend  # noqa: PLC0415

    return letters_backend
