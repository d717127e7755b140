"""Direct pins after a restore: a key may belong to a row that is published again."""

from uuid import uuid4

import pytest

from services.publisher.ids import compute_pin_id
from services.publisher.pins.creation import NewPin
from services.publisher.pins.repository import PinRepository
from services.publisher.pins.request_bodies import parse_pin
from shared.access.model import Principal
from shared.contract.errors import ApiError, PositionBehind
from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client, read_error, require_created

INSERT_PROMISE = """
    insert into publisher.row_outcomes (job_id, row_number, status, pin_id, promised_pin_id)
    values (:job_id, 1, 'created', :pin_id, :pin_id)
"""


async def reserve_key(client: Client, key: str) -> None:
    """Records that a row created the key's pin, which the restored Postgres does not have."""
    pin_id = compute_pin_id(client.workspace.id, key)
    await client.execute(INSERT_PROMISE, job_id=uuid4(), pin_id=pin_id)


async def test_invariant_3_a_direct_pin_waits_for_the_row_that_created_its_key(
    client: Client,
) -> None:
    await reserve_key(client, "reserved")
    answer = await client.post("/v1/pins", client.pin(idempotency_key="reserved"))
    assert read_error(answer) == (503, "key_recovering")
    assert answer.headers["retry-after"] == "1"
    assert "Send the request again in a few minutes." in answer.json()["detail"]["message"]
    schedule = client.schedule(idempotency_key="reserved")
    assert read_error(await client.post("/v1/schedules", schedule)) == (503, "key_recovering")


async def test_a_batch_with_a_reserved_key_is_refused_completely(client: Client) -> None:
    await reserve_key(client, "reserved")
    pins = [client.pin(idempotency_key="free"), client.pin(idempotency_key="reserved")]
    assert read_error(await client.post("/v1/pins/batch", {"pins": pins})) == (
        503,
        "key_recovering",
    )
    require_created(await client.post("/v1/pins", pins[0]))  # the batch published nothing


async def test_a_key_with_an_existing_pin_is_answered_as_usual(client: Client) -> None:
    pin = await client.publish_pin(idempotency_key="existing")
    await reserve_key(client, "existing")
    again = await client.post("/v1/pins", client.pin(idempotency_key="existing"))
    assert (again.status_code, again.json()["id"]) == (201, pin["id"])


async def test_invariant_3_nothing_is_published_while_postgres_may_be_an_older_copy(
    client: Client, database: Database
) -> None:
    async def is_behind(_made_at: float) -> None:
        raise PositionBehind("another Postgres")

    repository = PinRepository(database, is_behind)
    principal = Principal(client.workspace.id, uuid4(), frozenset())
    pin = NewPin.create(principal, parse_pin(client.pin()))
    with pytest.raises(ApiError) as refused:
        await repository.publish(pin)
    assert (refused.value.status, refused.value.code) == (503, "key_recovering")
    with pytest.raises(ApiError):
        await repository.publish_all([pin], [pin.pin_id])
