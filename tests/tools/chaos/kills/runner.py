"""Kills a broker or a producing process, waits until all works again, and checks the topic; once
for each kill.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from uuid import UUID, uuid4

from deploy.local.layout import CHECKOUT
from services.ingest.config import IngestSettings
from shared.contract.topics import TOPICS, TopicName, TopicNames
from shared.kafka.admin import create_topics
from tests.support.kafka import all_in_sync
from tests.support.waiting import eventually
from tests.tools.chaos.kills.brokers import Brokers, SmallDisk, find_leader
from tests.tools.chaos.kills.clients import PROBE_SECONDS, Answer, Clients, open_clients
from tests.tools.chaos.kills.imports import ImportFactory
from tests.tools.chaos.kills.killer import Killer, killer
from tests.tools.chaos.kills.ledger import AppendOutcome, Content, Ledger
from tests.tools.chaos.kills.tally import Kill, Kind
from tests.tools.chaos.kills.topic_reader import TopicReader

MAX_KILL_DELAY_SECONDS = 0.029
"""After the acknowledgement of an import: 30 ms with the time that the kill itself takes."""
MAX_IMPORTS_BEFORE_KILL = 12
"""Acknowledged imports before the one that the kill follows."""
PREPARED = 40
"""Imports that are built before the first is sent."""
NODES = 3
IN_SYNC_SECONDS = 120
USUAL_SESSION_EVERY = 5
"""So often a lone broker is started with the session timeout that is Kafka's default."""

MAX_PRODUCER_KILL_DELAY_SECONDS = 0.02
"""After an import was about to be sent."""
PRODUCERS = 3
"""Producing processes at once."""
PRODUCERS_A_CHECK = 10
PRODUCER_SECONDS = 60
"""For a producing process to start and send."""


@dataclass(slots=True)
class Run:
    """What the kills of one installation share."""

    settings: IngestSettings
    topic: str
    brokers: Brokers
    ledger: Ledger
    reader: TopicReader
    clients: Clients
    killer: Killer

    def count(self, kill: Kill, *, sign: int = 1) -> None:
        """Adds the outcomes of all imports so far to the kill's, or takes them away."""
        kill.acknowledged += sign * self.ledger.count(AppendOutcome.ACKNOWLEDGED)
        kill.unknown += sign * (self.ledger.count(AppendOutcome.UNKNOWN) + self.ledger.count(None))
        kill.refused += sign * self.ledger.count(AppendOutcome.REFUSED)


async def kill_repeatedly(
    kind: Kind,
    brokers: Brokers,
    disk: SmallDisk | None,
    numbers: range,
    seed: int,
    report: Callable[[Kill], None],
) -> None:
    """Kills for each of the numbers and reports it; in the end reads the whole topic again."""
    settings = IngestSettings(
        kafka_bootstrap_servers=brokers.kafka.bootstrap_servers, topic_prefix=f"k-{uuid4().hex[:8]}"
    )
    await create_topics(
        settings, tuple(topic for topic in TOPICS if topic.name is TopicName.IMPORTS)
    )
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    ledger = Ledger()
    factory = ImportFactory(Random(f"{seed} {numbers.start}"))
    with killer() as preferred:
        async with open_clients(settings, factory, ledger) as clients:
            run = Run(
                settings,
                topic,
                brokers,
                ledger,
                TopicReader(settings.kafka_bootstrap_servers, topic),
                clients,
                preferred,
            )
            await _kill_all(run, kind, disk, numbers, seed, report)
            again = Kill(kind, numbers[-1], seed)
            again.add_findings(
                *await TopicReader(settings.kafka_bootstrap_servers, topic).check(
                    ledger.read_again()
                )
            )
    if again.failed:
        again.details.insert(0, "when the whole topic was read again")
        report(again)


async def _kill_all(
    run: Run,
    kind: Kind,
    disk: SmallDisk | None,
    numbers: range,
    seed: int,
    report: Callable[[Kill], None],
) -> None:
    await run.clients.probe()
    if kind is Kind.PRODUCER:
        for start in range(0, len(numbers), PRODUCERS_A_CHECK):
            for kill in await _kill_producers(
                run, numbers[start : start + PRODUCERS_A_CHECK], seed
            ):
                report(kill)
    else:
        for number in numbers:
            report(await _kill_broker(run, Kill(kind, number, seed), disk))


async def _kill_broker(run: Run, kill: Kill, disk: SmallDisk | None) -> Kill:
    random = Random(f"{kill.seed} {kill.kind} {kill.number}")
    run.count(kill, sign=-1)
    if kill.kind is Kind.THREE:
        in_sync = lambda: all_in_sync(run.settings.kafka_bootstrap_servers)  # noqa: E731
        await eventually(in_sync, seconds=IN_SYNC_SECONDS, every=0.2)
    if disk is None:
        victim, killed, working = await _kill_after_acknowledgement(run, kill, random)
    else:
        victim = 1
        await _fill(run)
        kill.victim = "alive" if run.brokers.is_alive(victim) else "stopped by itself"
        if run.brokers.is_alive(victim):
            await run.brokers.kill(victim)
        disk.enlarge()
        killed, working = time.monotonic(), None
    usual_session = kill.kind is Kind.THREE or kill.number % USUAL_SESSION_EVERY == 0
    run.brokers.start(victim, short_session=not usual_session)
    stuck = await run.clients.probe()
    kill.seconds_until_accepting = round(time.monotonic() - killed, 2)
    if working is not None:
        await working
    findings, behind = await run.reader.check(run.ledger)
    kill.add_findings(findings, stuck | behind)
    run.count(kill)
    return kill


async def _kill_after_acknowledgement(
    run: Run, kill: Kill, random: Random
) -> tuple[int, float, "asyncio.Task[None]"]:
    """Kills a broker after an acknowledgement; returns it, when that was, and the imports that are
    still under way.
    """
    delay, remaining = (
        random.uniform(0, MAX_KILL_DELAY_SECONDS),
        random.randint(1, MAX_IMPORTS_BEFORE_KILL),
    )
    leaders = await _leaders(run) if kill.kind is Kind.THREE else {}
    chosen: list[tuple[int, float]] = []
    is_over = False

    def goes_on(answer: Answer) -> bool:
        nonlocal remaining
        remaining -= answer.outcome is AppendOutcome.ACKNOWLEDGED
        if remaining <= 0 and not chosen:
            acknowledged, leader = time.monotonic(), leaders.get(answer.partition, 1)
            victim = leader % NODES + 1 if kill.kind is Kind.THREE and kill.number % 2 else leader
            run.killer.kill_at(run.brokers.programs[victim - 1].process.pid, acknowledged + delay)
            chosen.append((victim, acknowledged))
            kill.victim = f"node {victim}{', leader' if victim == leader else ''}"
        return not is_over

    run.clients.prepare(PREPARED)
    working = asyncio.create_task(run.clients.work(goes_on))
    ((victim, acknowledged),) = await eventually(lambda: chosen, seconds=PROBE_SECONDS, every=0.001)
    killed = await asyncio.to_thread(run.killer.wait)
    is_over = True
    kill.ms_after_acknowledgement = round((killed - acknowledged) * 1000, 1)
    await run.brokers.kill(victim)
    return victim, killed, working


async def _leaders(run: Run) -> dict[int, int]:
    return {
        partition: await find_leader(run.settings, run.topic, partition)
        for partition in range(run.settings.topic_partitions)
    }


async def _fill(run: Run) -> None:
    """Appends imports until the broker accepts no more."""
    await run.clients.work(lambda answer: answer.outcome is AppendOutcome.ACKNOWLEDGED)


async def _kill_producers(run: Run, numbers: range, seed: int) -> list[Kill]:
    """Kills so many producing processes, some at the same time, and checks after all of them."""
    at_once = asyncio.Semaphore(PRODUCERS)

    async def kill_one(number: int) -> Kill:
        async with at_once:
            return await _kill_producer(run, Kill(Kind.PRODUCER, number, seed))

    kills = list(await asyncio.gather(*map(kill_one, numbers)))
    stuck = await run.clients.probe()
    findings, behind = await run.reader.check(run.ledger)
    kills[-1].add_findings(findings, stuck | behind)
    return kills


async def _kill_producer(run: Run, kill: Kill) -> Kill:
    random = Random(f"{kill.seed} {kill.kind} {kill.number}")
    arguments = (
        run.settings.kafka_bootstrap_servers,
        run.settings.topic_prefix,
        str(random.getrandbits(32)),
    )
    command = (sys.executable, "-m", "tests.tools.chaos.kills.producer_process", *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )
    try:
        async with asyncio.timeout(PRODUCER_SECONDS):
            await _listen(
                run, kill, process, until_sending=random.randint(1, MAX_IMPORTS_BEFORE_KILL)
            )
        moment = time.monotonic()
        await asyncio.sleep(random.uniform(0, MAX_PRODUCER_KILL_DELAY_SECONDS))
        kill.ms_after_acknowledgement = round((time.monotonic() - moment) * 1000, 1)
    finally:
        process.kill()
    await _listen(run, kill, process)
    await process.wait()
    kill.victim = "producer"
    return kill


async def _listen(run: Run, kill: Kill, process: Process, until_sending: int = 0) -> None:
    """Notes what the process says: up to the import with this number, or all."""
    assert process.stdout is not None
    async for line in process.stdout:
        word, job, *content = line.decode().split()
        if word == "sending":
            run.ledger.send(UUID(job), Content(*map(int, content)))
            kill.unknown += 1
            until_sending -= 1
            if until_sending == 0:
                return
            continue
        outcome = AppendOutcome(word)
        run.ledger.settle(UUID(job), outcome)
        kill.unknown -= outcome is not AppendOutcome.UNKNOWN
        kill.acknowledged += outcome is AppendOutcome.ACKNOWLEDGED
        kill.refused += outcome is AppendOutcome.REFUSED
    if until_sending > 0:
        raise AssertionError("a producing process ended by itself")
