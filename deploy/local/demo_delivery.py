"""Follows the delivery of the demo's pins to the simulator of Pinterest, and shows what it did."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import typer

from deploy.cli.client import PinflowClient
from deploy.cli.counts import choose_verb, number_of
from deploy.cli.progress import build_progress
from deploy.cli.tables import printable
from deploy.local.layout import LocalError
from deploy.local.pinterest import SPEED, WRITES_PER_MINUTE
from deploy.services import DELIVERY
from deploy.simulator.options import Options

PINS = "/v1/pins"
EXAMPLES = 3
MAX_FAILURES = 200
"""The most failed or deferred pins that are read for the list of causes."""
MAX_PINS = 2000
"""The most pins that are counted. The demo has 500, and the newest are listed first."""
POLL_SECONDS = 0.5
STALL_SECONDS = 60.0
"""The time without progress after which the demo gives up. A lost answer takes longer, but the
simulator loses none unless a fault is injected."""
ADVICE = {
    "failed": "Correct the cause, then send a pin again: .venv/bin/pinflow pins retry ID",
    "deferred": "Pinflow tries again by itself. See a pin: .venv/bin/pinflow pins show ID",
}
"""The next step for pins, by their status."""
STATUSES = ("queued", "publishing", "deferred", "published", "failed")


class Delivery(NamedTuple):
    """The numbers of pins of the workspace, by status. Schedules in the future do not count."""

    counts: dict[str, int]

    @property
    def open_pins(self) -> int:
        """The pins that are sent as soon as possible."""
        return self.counts["queued"] + self.counts["publishing"]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def follow_delivery(client: PinflowClient, describe_process: Callable[[], str]) -> Delivery:
    """Waits until no pin is sent any more: each is published, failed or deferred.

    `describe_process` returns the state of the delivery process. Raises LocalError if nothing
    happens for STALL_SECONDS.
    """
    seen = read_delivery(client)
    changed_at = time.monotonic()
    with build_progress("pins") as progress:
        task = progress.add_task("delivering", total=seen.total)
        while seen.open_pins:
            progress.update(task, total=seen.total, completed=seen.total - seen.open_pins)
            if time.monotonic() - changed_at > STALL_SECONDS:
                raise LocalError(_describe_stall(seen, describe_process()))
            _sleep(seen)
            before, seen = seen, read_delivery(client)
            if seen != before:
                changed_at = time.monotonic()
        progress.update(task, total=seen.total, completed=seen.total)
    return seen


def read_delivery(client: PinflowClient) -> Delivery:
    """Counts the workspace's pins, the newest MAX_PINS at most, each of them once.

    One count for each status would have a pin twice that changes its status between two of them.
    """
    pins = client.list_items(PINS, {}, MAX_PINS).items
    statuses = Counter({pin["id"]: pin["status"] for pin in pins}.values())
    return Delivery({status: statuses[status] for status in STATUSES})


def describe_result(client: PinflowClient, delivery: Delivery, simulator_url: str) -> str:
    """Describes what was delivered, what failed or waits and why, and where to look."""
    counts = delivery.counts
    published = client.list_items(
        PINS, {"status": "published", "sort": "published_at_desc"}, MAX_FAILURES
    )
    delivered = [pin for pin in published.items if pin["pinterest_pin_id"]]
    lines = [
        f"\nDelivered to the simulator of Pinterest at {simulator_url}:",
        "  {published} published, {failed} failed, {deferred} deferred".format(**counts),
        *_describe_schedules(client),
        _describe_limits(),
        "",
        *_describe_examples(delivered[:EXAMPLES], simulator_url),
    ]
    for status, title in (("failed", "Failed"), ("deferred", "Deferred: tried again later")):
        pins = client.list_items(PINS, {"status": status}, MAX_FAILURES).items
        lines += _describe_causes(title, pins, ADVICE[status])
    lines += [
        "The simulator refuses three images of the campaign on purpose: rows 55, 255 and 345.",
        "Nothing was sent to Pinterest itself.",
    ]
    return "\n".join(lines)


def _sleep(seen: Delivery) -> None:
    try:
        time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        typer.echo(
            f"\nStopped. {number_of(seen.open_pins, 'pin')} "
            f"{choose_verb(seen.open_pins, 'waits for its', 'wait for their')} delivery, which "
            "goes on while Pinflow runs: make up",
            err=True,
        )
        raise


def _describe_stall(seen: Delivery, state: str) -> str:
    return (
        f"No pin was delivered for {STALL_SECONDS:.0f} s, and {seen.open_pins} wait. The delivery "
        f"process is {state}. See .pinflow/log/{DELIVERY.name}.log, and with Pinflow running: "
        ".venv/bin/pinflow deliveries. Nothing is lost: run make demo again to continue."
    )


def _describe_schedules(client: PinflowClient) -> list[str]:
    """Counts the pins that are delivered later, so that the numbers add up to the created rows."""
    listing = client.list_items("/v1/schedules", {"status": "scheduled"}, 1)
    count = len(listing.items) if listing.total is None else listing.total
    return [f"  {count} more wait for their run_at: pinflow schedules list"] if count else []


def _describe_limits() -> str:
    spacing = SPEED["PINFLOW_DELIVERY_SPACING_SECONDS"]
    return (
        f"  For the demo, the simulator takes {WRITES_PER_MINUTE} writes a minute from an account\n"
        f"  (Pinterest: {Options.writes_per_minute}), and the spacing of pins is {spacing} s."
    )


def _describe_examples(pins: Sequence[dict[str, Any]], simulator_url: str) -> list[str]:
    if not pins:
        return []
    lines = ["Some of them, as the simulator has them while it runs:"]
    for pin in pins:
        pin_id = pin["pinterest_pin_id"]
        lines += [
            f"  {pin_id}  {printable(pin['title'])}",
            f"    {simulator_url}/_simulator/pins?id={pin_id}",
        ]
    return [*lines, ""]


def _describe_causes(title: str, pins: Sequence[dict[str, Any]], advice: str) -> list[str]:
    """Describes each cause with its number of pins and some of them, then what to do."""
    if not pins:
        return []
    by_cause = defaultdict(list)
    for pin in pins:
        by_cause[pin["error_code"], pin["error_message"]].append(pin)
    lines = [f"{title}:"]
    for (code, message), group in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        lines.append(f"  {len(group)}  {code}: {printable(message or '')}")
        lines += [f"     {pin['id']}  {printable(pin['title'])}" for pin in group[:EXAMPLES]]
    return [*lines, f"  {advice}", ""]
