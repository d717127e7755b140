"""Consumes `import-requests`: imports that upstream systems request by topic."""

import asyncio
from typing import TypeAlias

from aiokafka import ConsumerRecord

from services.ingest.import_request_service import ImportRequestService
from services.ingest.import_requests import ReceivedRequest, identify_request, require_type
from shared.contract.errors import Poison
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter, select_replay_headers
from shared.kafka.positions.advance import Advance

RequestRecord: TypeAlias = "ConsumerRecord[bytes, bytes]"


class ImportRequestHandler:
    """Hands a batch of requests to ImportRequestService. Poison records become dead letters."""

    def __init__(self, imports: ImportRequestService) -> None:
        self._imports = imports

    def decode(self, records: Batch) -> tuple[list[RequestRecord], list[DeadLetter]]:
        """Checks only the headers.

        It runs on the event loop, which parsing the bodies of a batch would block for a second.
        """
        delivered, poison = [], []
        for record in records:
            try:
                require_type(dict(record.headers).get("ce_type", b""))
                delivered.append(record)
            except Poison as reason:
                poison.append(DeadLetter(record, reason))
        return delivered, poison

    async def process(
        self, decoded: list[RequestRecord], _poison: list[DeadLetter], _advance: Advance
    ) -> list[DeadLetter]:
        """Accepts the requests. Returns those that can never be accepted as dead letters."""
        requests: list[ReceivedRequest] = []
        accepted: list[RequestRecord] = []
        dead_letters = []
        for record in decoded:
            try:
                requests.append(await asyncio.to_thread(_receive, record))
                accepted.append(record)
            except Poison as reason:
                dead_letters.append(DeadLetter(record, reason))
        refused = await self._imports.accept(requests)
        dead_letters += [DeadLetter(accepted[index], reason) for index, reason in refused.items()]
        return dead_letters


def _receive(record: RequestRecord) -> ReceivedRequest:
    return identify_request(record.value or b"", select_replay_headers(record.headers))
