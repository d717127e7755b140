"""Boards of connected accounts are read from Pinterest, and a failed read changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from services.access.app import create_app
from services.access.boards.connected_repository import ConnectedBoardRepository
from services.access.boards.sync import BoardSync
from services.access.dependencies import AccessDependencies
from shared.access.model import BoardCheck, Destination
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.support.connections import connect_account, make_access_settings
from tests.support.infrastructure import with_role
from tests.support.services import running_app
from tests.support.simulator import Simulator, running_simulator
from tests.support.waiting import eventually

MAX_BOARDS = 700
WAITING = text(
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type "
    "= 'Lock'"
)
