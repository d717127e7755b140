"""The SQL of videos on their way to Pinterest.

Whoever takes a video moves `next_at` ahead, so nobody else takes it until then. A change requires
that the step and the medium are still those that were taken: a late answer changes nothing. Nothing
here is dangerous to repeat, so there is no fence.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Json

from services.publisher.delivery.accounts.leases import Source
from services.publisher.delivery.accounts.pauses import NEW_PIN_CODES
from services.publisher.delivery.media.rules import (
    KEPT_SECONDS,
    MAX_READY_SECONDS,
    OVERDUE_SECONDS,
)
from services.publisher.delivery.media.video import Video, VideoChange, VideoStep
from shared.postgres.database import Database, DriverConnection, driver_connection
from shared.postgres.row import Row

_COLUMNS = """
    m.pin_id, m.workspace_id, m.account_id, m.source_url, m.step, m.media_id, m.upload_url,
    m.upload_parameters, m.registrations, m.tries, m.looks
"""
# Begins anew if the pin has another account, mode or video since
_REQUEST = """
    insert into publisher.delivery_media as m (pin_id, workspace_id, account_id, mode, source_url)
    values (%(pin_id)s, %(workspace_id)s, %(account_id)s, %(mode)s, %(source_url)s)
    on conflict (pin_id) do update set
        account_id = excluded.account_id, mode = excluded.mode, source_url = excluded.source_url,
        step = 'register', media_id = null, upload_url = null, upload_parameters = null,
        registrations = 0, tries = 0, looks = 0, ready_at = null, error_code = null,
        error_message = null, next_at = clock_timestamp(), changed_at = clock_timestamp()
    where (m.account_id, m.mode, m.source_url)
        is distinct from (excluded.account_id, excluded.mode, excluded.source_url)
"""
# Pinterest may have deleted a medium that is old, or with which it refused a pin. So its status is
# read again before it is used
_LOOK_AGAIN = """
    update publisher.delivery_media m
    set step = 'process', looks = 0, registrations = 0, next_at = clock_timestamp(),
        changed_at = clock_timestamp()
    where pin_id = %(pin_id)s and step = 'ready' and (
        ready_at < clock_timestamp() - %(max_ready_seconds)s * interval '1 second'
        or exists (
            select from publisher.delivery_attempts a
            where a.pin_id = m.pin_id and a.outcome = 'refused' and a.settled_at > m.ready_at
        )
    )
"""
_READ = """
    select step, media_id, error_code, error_message from publisher.delivery_media
    where pin_id = %(pin_id)s
"""
_IS_FOR_PIN = """
    p.state = 'queued' and p.deleted_at is null
        and (p.account_id, p.image_url) = (m.account_id, m.source_url)
"""
_WANTED = f"""
    exists (select from publisher.pins p where p.pin_id = m.pin_id and {_IS_FOR_PIN})
"""
# A registration is a change, which a paused account or app may not make. Looks go on
_MAY_CALL = """
    (
        step = 'process' or (
            step = 'register'
            and not exists (
                select from publisher.delivery_accounts a
                where a.account_id = m.account_id and a.paused_until > clock_timestamp()
            )
            and not exists (
                select from publisher.delivery_apps a
                where a.mode = m.mode and a.paused_until > clock_timestamp()
            )
        )
    )
"""
_TAKE = f"""
    update publisher.delivery_media m
    set next_at = clock_timestamp() + %(seconds)s * interval '1 second'
    where pin_id = (
        select pin_id from publisher.delivery_media m
        where {{which}} and mode = %(mode)s and next_at <= clock_timestamp() and {_WANTED}
        order by next_at limit 1
        for update skip locked
    )
    returning {_COLUMNS}
"""
_TAKE_CALL = _TAKE.format(
    which=f"account_id = %(account_id)s and step in ('register', 'process') and {_MAY_CALL}"
)
# Reads the due videos of full workspaces, too: 20 000 of them take about 10 ms
_TAKE_UPLOAD = _TAKE.format(
    which="step = 'upload' and workspace_id <> all(%(full_workspaces)s::uuid[])"
)
_KEEP = f"""
    update publisher.delivery_media m
    set next_at = clock_timestamp() + %(seconds)s * interval '1 second'
    where pin_id = %(pin_id)s and step = 'upload' and media_id = %(media_id)s and {_WANTED}
"""
_CHANGE = """
    update publisher.delivery_media
    set {changes} changed_at = clock_timestamp(),
        next_at = clock_timestamp() + %(wait_seconds)s * interval '1 second'
    where pin_id = %(pin_id)s and step = %(old_step)s
        and media_id is not distinct from %(old_media_id)s and source_url = %(source_url)s
    returning step
"""
_WAKE = """
    update publisher.pins set deliver_after = null
    where pin_id = %s and state = 'queued' and deferral_code is null
"""
_DELETE_OLD = """
    delete from publisher.delivery_media where pin_id in (
        select pin_id from publisher.delivery_media m
        where changed_at < clock_timestamp() - %(days)s * interval '1 day'
            and not exists (
                select from publisher.pins p where p.pin_id = m.pin_id and p.state = 'queued'
            )
        limit %(limit)s
        for update skip locked
    )
"""
VIDEOS = Source(
    "videos",
    f"""
    select distinct account_id, workspace_id from publisher.delivery_media m
    where step in ('register', 'process') and mode = %(mode)s and next_at <= clock_timestamp()
        and {_MAY_CALL} and {_WANTED}
    """,
    NEW_PIN_CODES,
)
"""Finds the accounts for which VideoCalls has work."""
# A step that is not overdue is being done, or waits for its time. An overdue upload waits for its
# turn while another one runs. A pin looks at its video in its account's turns: if its look is
# overdue, there are no turns. The inner limit makes Postgres look each pin up by its id, instead of
# reading an account's queue
UPLOADING = f"""
    select m.pin_id from publisher.delivery_media m cross join lateral (
        select state, deleted_at, account_id, image_url, deferral_code, deliver_after
        from publisher.pins where pin_id = m.pin_id limit 1
    ) p
    where m.mode = %(mode)s and m.step in ('register', 'upload', 'process') and {_IS_FOR_PIN}
        and p.deferral_code is null
        and p.deliver_after > clock_timestamp() - interval '{OVERDUE_SECONDS:g} seconds'
        and (
            m.next_at > clock_timestamp() - interval '{OVERDUE_SECONDS:g} seconds'
            or (
                m.step = 'upload' and exists (
                    select from publisher.delivery_media
                    where mode = %(mode)s and step = 'upload' and next_at > clock_timestamp()
                        and next_at <= clock_timestamp() + interval '{KEPT_SECONDS:g} seconds'
                )
            )
        )
"""
"""Finds the queued pins whose videos make progress. May use %(mode)s."""
_JSON_COLUMNS = frozenset({"upload_parameters"})


class VideoRepository:
    """Stores videos in the mode `mode`. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database, mode: str) -> None:
        self._database = database
        self._mode = mode

    async def request(self, pin: Row) -> Row:
        """Requests the upload of a pin's video, unless that was done. Returns its state.

        The state has step, media_id, error_code and error_message. A failed video is deleted at the
        same time: its pin fails now, and a retry of the pin uploads the video anew.
        """
        values = {
            "pin_id": pin["pin_id"],
            "workspace_id": pin["workspace_id"],
            "account_id": pin["account_id"],
            "source_url": pin["image_url"],
            "mode": self._mode,
            "max_ready_seconds": MAX_READY_SECONDS,
        }
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await driver.execute(_REQUEST, values)
            await driver.execute(_LOOK_AGAIN, values)
            cursor = driver.cursor(row_factory=dict_row)
            await cursor.execute(_READ, values)
            (state,) = await cursor.fetchall()
            if state["step"] == VideoStep.FAILED:
                await driver.execute(
                    "delete from publisher.delivery_media where pin_id = %(pin_id)s", values
                )
        return state

    async def take_call(self, account_id: UUID, seconds: float) -> Video | None:
        """Takes a video of the account whose next call is due, if there is one."""
        return await self._take(_TAKE_CALL, account_id=account_id, seconds=seconds)

    async def take_upload(
        self, seconds: float, full_workspaces: Collection[UUID] = ()
    ) -> Video | None:
        """Takes a video of another workspace than these that is to be uploaded, if one is due."""
        full = list(full_workspaces)
        return await self._take(_TAKE_UPLOAD, seconds=seconds, full_workspaces=full)

    async def keep(self, video: Video, seconds: float) -> bool:
        """Holds a taken upload for `seconds` more. Returns False if its pin needs it no longer."""
        values = {"pin_id": video.pin_id, "media_id": video.media_id, "seconds": seconds}
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            return (await driver.execute(_KEEP, values)).rowcount == 1

    async def change(self, video: Video, change: VideoChange) -> bool:
        """Changes a video that was taken. Returns False if another worker has changed it.

        If it is ready or has failed, its pin is due at once.
        """
        values = {
            name: Json(value) if name in _JSON_COLUMNS and value is not None else value
            for name, value in change.values.items()
        }
        changes = "".join(f"{name} = %({name})s, " for name in values)
        if change.values.get("step") == VideoStep.READY:
            changes += "ready_at = clock_timestamp(), "
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            cursor = await driver.execute(
                _CHANGE.format(changes=changes),
                {
                    **values,
                    "wait_seconds": change.wait_seconds,
                    "pin_id": video.pin_id,
                    "old_step": video.step,
                    "old_media_id": video.media_id,
                    "source_url": video.source_url,
                },
            )
            row = await cursor.fetchone()
            if row is not None and row[0] in {VideoStep.READY, VideoStep.FAILED}:
                await driver.execute(_WAKE, (video.pin_id,))
        return row is not None

    async def delete_old(self, days: float, limit: int) -> int:
        """Deletes at most `limit` videos that are unchanged for `days` and have no queued pin.

        Returns their number.
        """
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            return (await driver.execute(_DELETE_OLD, {"days": days, "limit": limit})).rowcount

    async def _take(self, statement: str, **values: Any) -> Video | None:
        async with self._database.transaction() as connection:
            driver: DriverConnection = await driver_connection(connection)
            cursor = driver.cursor(row_factory=dict_row)
            await cursor.execute(statement, {"mode": self._mode, **values})
            row = await cursor.fetchone()
        if row is None:
            return None
        return Video(**{**row, "step": VideoStep(row["step"])})
