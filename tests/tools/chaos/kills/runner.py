"""Kills brokers or producers, waits for the recovery and checks the topic."""

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
from tests.support.kafka import are_replicas_in_sync
from tests.support.waiting import eventually
from tests.tools.chaos.kills.brokers import Brokers, SmallDisk, find_leader
from tests.tools.chaos.kills.clients import PROBE_SECONDS, Answer, Clients, open_clients
from tests.tools.chaos.kills.imports import ImportFactory
from tests.tools.chaos.kills.killer import Killer, killer
from tests.tools.chaos.kills.ledger import AppendOutcome, Content, Ledger
from tests.tools.chaos.kills.tally import Kill, Kind
from tests.tools.chaos.kills.topic_reader import TopicReader

MAX_KILL_DELAY_SECONDS = 0.029
"""The longest time from an import's acknowledgement to the kill, which itself takes about 1 ms."""
MAX_IMPORTS_BEFORE_KILL = 12
"""The most imports that are acknowledged before a kill."""
PREPARED_IMPORTS = 40
"""The number of imports that are built before the first is sent."""
NODES = 3
IN_SYNC_SECONDS = 120
DEFAULT_SESSION_EVERY = 5
"""A single broker is restarted with Kafka's default session timeout after every fifth kill."""

MAX_PRODUCER_KILL_DELAY_SECONDS = 0.02
"""The longest time from the start of a send to the kill of a producer."""
CONCURRENT_PRODUCERS = 3
PRODUCERS_PER_CHECK = 10
PRODUCER_SECONDS = 60
"""The timeout for a producer to start and send."""


@dataclass(slots=True)
class Run:
    """The installation that several kills share."""

    settings: IngestSettings
    topic: str
    brokers: Brokers
    ledger: Ledger
    reader: TopicReader
    clients: Clients
    killer: Killer

    def count(self, kill: Kill, *, sign: int = 1) -> None:
        """Adds the outcomes of all imports so far to the kill's counters, or subtracts them."""
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
    """Makes and reports a kill for each number. At the end it reads the whole topic again."""
    settings = IngestSettings(
        kafka_bootstrap_servers=brokers.kafka.bootstrap_servers, topic_prefix=f"k-{uuid4().hex[:8]}"
    )
    await create_topics(
        settings, tuple(topic for topic in TOPICS if topic.name is TopicName.IMPORTS)
    )
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    ledger = Ledger()
    factory = ImportFactory(Random(f"{seed} {numbers.start}"))
    with killer() as kill_sender:
        async with open_clients(settings, factory, ledger) as clients:
            run = Run(
                settings,
                topic,
                brokers,
                ledger,
                TopicReader(settings.kafka_bootstrap_servers, topic),
                clients,
                kill_sender,
            )
            await _kill_all(run, kind, disk, numbers, seed, report)
            again = Kill(kind, numbers[-1], seed)
            again.add_findings(
                *await TopicReader(settings.kafka_bootstrap_servers, topic).check(
                    ledger.copy_unread()
                )
            )
    if again.failed:
        again.details.insert(0, "found when the whole topic was read again")
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
        for start in range(0, len(numbers), PRODUCERS_PER_CHECK):
            for kill in await _kill_producers(
                run, numbers[start : start + PRODUCERS_PER_CHECK], seed
            ):
                report(kill)
    else:
        for number in numbers:
            report(await _kill_broker(run, Kill(kind, number, seed), disk))


async def _kill_broker(run: Run, kill: Kill, disk: SmallDisk | None) -> Kill:
    random = Random(f"{kill.seed} {kill.kind} {kill.number}")
    run.count(kill, sign=-1)
    if kill.kind is Kind.THREE:
        in_sync = lambda: are_replicas_in_sync(run.settings.kafka_bootstrap_servers)  # noqa: E731
        await eventually(in_sync, seconds=IN_SYNC_SECONDS, every=0.2)
    if disk is None:
        victim, killed, working = await _kill_after_acknowledgement(run, kill, random)
    else:
        victim = 1
        await _fill(run)
        kill.victim = "alive" if run.brokers.is_alive(victim) else "ended because of the full disk"
        if run.brokers.is_alive(victim):
            await run.brokers.kill(victim)
        disk.enlarge()
        killed, working = time.monotonic(), None
    has_default_session = kill.kind is Kind.THREE or kill.number % DEFAULT_SESSION_EVERY == 0
    run.brokers.start(victim, short_session=not has_default_session)
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
    """Kills a broker after an acknowledgement.

    Returns the broker, the time of the kill, and the task of the imports in progress.
    """
    delay, remaining = (
        random.uniform(0, MAX_KILL_DELAY_SECONDS),
        random.randint(1, MAX_IMPORTS_BEFORE_KILL),
    )
    leaders = await _find_leaders(run) if kill.kind is Kind.THREE else {}
    sent_kills: list[tuple[int, float]] = []
    is_over = False

    def should_continue(answer: Answer) -> bool:
        nonlocal remaining
        remaining -= answer.outcome is AppendOutcome.ACKNOWLEDGED
        if remaining <= 0 and not sent_kills:
            acknowledged, leader = time.monotonic(), leaders.get(answer.partition, 1)
            victim = leader % NODES + 1 if kill.kind is Kind.THREE and kill.number % 2 else leader
            run.killer.kill_at(run.brokers.programs[victim - 1].process.pid, acknowledged + delay)
            sent_kills.append((victim, acknowledged))
            kill.victim = f"node {victim}{', leader' if victim == leader else ''}"
        return not is_over

    run.clients.prepare(PREPARED_IMPORTS)
    working = asyncio.create_task(run.clients.append_while(should_continue))
    ((victim, acknowledged),) = await eventually(
        lambda: sent_kills, seconds=PROBE_SECONDS, every=0.001
    )
    killed = await asyncio.to_thread(run.killer.wait)
    is_over = True
    kill.ms_after_acknowledgement = round((killed - acknowledged) * 1000, 1)
    await run.brokers.kill(victim)
    return victim, killed, working


async def _find_leaders(run: Run) -> dict[int, int]:
    return {
        partition: await find_leader(run.settings, run.topic, partition)
        for partition in range(run.settings.topic_partitions)
    }


async def _fill(run: Run) -> None:
    """Appends imports until the broker accepts no more."""
    await run.clients.append_while(lambda answer: answer.outcome is AppendOutcome.ACKNOWLEDGED)


async def _kill_producers(run: Run, numbers: range, seed: int) -> list[Kill]:
    """Kills one producer for each number, some at the same time, and then checks the topic once."""
    slots = asyncio.Semaphore(CONCURRENT_PRODUCERS)

    async def kill_one(number: int) -> Kill:
        async with slots:
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
    """Records a producer's output, until it sends import `until_sending` or to the end (0)."""
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
        raise AssertionError("a producer ended before it was killed")
