"""Defines the dependencies of the access service's endpoints."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.access.accounts.refresh import AccountRefresh
from services.access.accounts.service import AccountService
from services.access.boards.service import BoardService
from services.access.config import AccessSettings
from services.access.connections.handout import TokenHandout
from services.access.connections.service import ConnectionService
from services.access.keys.service import KeyService
from services.access.oauth.service import OAuthService
from shared.http.bodies import BodyReader
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader


@dataclass(frozen=True, slots=True)
class AccessDependencies:
    """The objects that create_app builds for the endpoints."""

    settings: AccessSettings
    keys: KeyService
    accounts: AccountService
    refresh: AccountRefresh
    boards: BoardService
    connections: ConnectionService
    tokens: TokenHandout
    oauth: OAuthService
    reader: JsonReader
    board_reader: JsonReader
    reports: BodyReader


Access = Annotated[AccessDependencies, Depends(typed_dependencies(AccessDependencies))]
