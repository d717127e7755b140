"""Builds the access service."""

from fastapi import FastAPI

from services.access.accounts import endpoints as account_endpoints
from services.access.accounts.health import ConnectionPolicy
from services.access.accounts.refresh import AccountRefresh
from services.access.accounts.repository import AccountRepository
from services.access.accounts.service import AccountService
from services.access.boards import endpoints as boards
from services.access.boards.connected import ConnectedBoards
from services.access.boards.connected_repository import ConnectedBoardRepository
from services.access.boards.repository import BoardRepository
from services.access.boards.request_repository import BoardRequestRepository
from services.access.boards.service import BoardService
from services.access.boards.sync import BoardSync
from services.access.config import AccessSettings
from services.access.connections import endpoints as connection_endpoints
from services.access.connections.budgets import RequestBudget
from services.access.connections.handout import TokenHandout
from services.access.connections.link import PinterestLink
from services.access.connections.repository import ConnectionRepository
from services.access.connections.service import ConnectionService
from services.access.connections.sweep import ConnectionSweep
from services.access.connections.usable import UsableConnections
from services.access.dependencies import AccessDependencies
from services.access.keys import endpoints as keys
from services.access.keys.repository import KeyRepository
from services.access.keys.service import KeyService
from services.access.oauth import endpoints as oauth_endpoints
from services.access.oauth.repository import AttemptRepository
from services.access.oauth.service import OAuthService
from shared.contract.import_limits import MEBIBYTE
from shared.http.bodies import BodyReader
from shared.http.client import create_http_pool
from shared.http.internal import InternalClient
from shared.http.json_reader import JsonReader
from shared.http.write_limit import WriteLimit
from shared.pinterest.app_client import PinterestAppClient
from shared.runtime.service import Service

MAX_REPORT_BYTES = 64 * 1024
"""Maximum size of a report of used keys. A report with MAX_REPORTED_KEYS keys has 20 kB."""
MAX_BUFFERED_BYTES = 64 * MEBIBYTE
"""Memory for all bodies that are read at once, unless the body limit needs more.

BodyReader uses half of it for bodies up to 256 kB: 512 bodies of the default limit.
"""


def create_app(settings: AccessSettings) -> FastAPI:
    """Builds the application. Nothing starts before the application's lifespan."""
    service = Service("access", settings)
    key_repository = KeyRepository(service.database)
    account_repository = AccountRepository(service.database)
    connection_repository = ConnectionRepository(service.database, settings.pinterest_mode)
    link = (
        PinterestLink.build(settings, connection_repository, PinterestAppClient(settings))
        if settings.is_pinterest_on
        else None
    )
    http = create_http_pool()
    publisher = InternalClient("publisher", http, settings.publisher_url, settings.internal_token)
    budget = RequestBudget(publisher, settings.pinterest_mode)
    connections = ConnectionService(connection_repository, settings, link, budget)
    connected_boards = ConnectedBoardRepository(service.database)
    sync = BoardSync(connected_boards, connections, settings)
    policy = ConnectionPolicy(settings.pinterest_mode, settings.asked_scopes)
    accounts = AccountService(account_repository, policy, connections)
    attempts = AttemptRepository(service.database)
    oauth = OAuthService(
        settings,
        attempts=attempts,
        accounts=accounts,
        connections=connections,
        boards=sync,
        api=None if link is None else link.api,
    )
    bodies = _read_bodies(settings)
    return service.create_app(
        summary="Manages API keys, accounts and boards, and connects accounts to Pinterest.",
        dependencies=AccessDependencies(
            settings=settings,
            keys=KeyService(key_repository, settings.max_api_keys),
            accounts=accounts,
            refresh=AccountRefresh(accounts, account_repository, connections, sync),
            oauth=oauth,
            connections=connections,
            tokens=TokenHandout(UsableConnections(connection_repository, settings, link)),
            boards=BoardService(
                BoardRepository(service.database),
                account_repository,
                ConnectedBoards(
                    connected_boards,
                    BoardRequestRepository(service.database),
                    connections,
                    sync,
                    settings,
                ),
                settings.max_boards_per_account,
            ),
            reader=JsonReader(bodies, _limit_writes(settings, "keys are being changed")),
            # With a limit of its own, because these requests may wait for Pinterest
            board_reader=JsonReader(bodies, _limit_writes(settings, "boards are being changed")),
            # With limits of its own, so that clients which use up the reader's limits do not delay
            # reports
            reports=BodyReader(
                limit_bytes=MAX_REPORT_BYTES,
                timeout_seconds=settings.body_seconds,
                total_bytes=MEBIBYTE,
            ),
        ),
        routers=[
            account_endpoints.router,
            boards.router,
            oauth_endpoints.router,
            oauth_endpoints.callback_router,
            oauth_endpoints.internal_router,
            connection_endpoints.internal_router,
            keys.router,
            keys.internal_router,
        ],
        tasks=(
            []
            if link is None
            else [
                sync.periodic_task(),
                ConnectionSweep(connection_repository, attempts, link).periodic_task(),
            ]
        ),
        closing=[oauth.close, connections.close, http.aclose],
        used_keys=key_repository,
    )


def _read_bodies(settings: AccessSettings) -> BodyReader:
    limit = settings.access_body_limit
    return BodyReader(
        limit_bytes=limit,
        timeout_seconds=settings.body_seconds,
        total_bytes=max(MAX_BUFFERED_BYTES, 2 * limit),
    )


def _limit_writes(settings: AccessSettings, activity: str) -> WriteLimit:
    return WriteLimit(settings.max_access_changes, activity=activity)
