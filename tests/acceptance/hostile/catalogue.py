"""Every hostile request, by kind."""

from tests.acceptance.hostile.bodies import CODINGS, JSON_BODIES, UPLOADS
from tests.acceptance.hostile.commands import LISTS, PINS, SCHEDULE_REQUESTS, WORKSPACE_REQUESTS
from tests.acceptance.hostile.connections import CONNECTION_REQUESTS
from tests.acceptance.hostile.framing import LENGTHS
from tests.acceptance.hostile.lines import ADDRESSES, HEADERS, METHODS, VERSIONS
from tests.acceptance.hostile.requests import Hostile

CATALOGUE: dict[str, list[Hostile]] = {
    "JSON": JSON_BODIES,
    "Content encodings and types": CODINGS,
    "Uploads": UPLOADS,
    "Pins, batches, updates": PINS,
    "Schedules": SCHEDULE_REQUESTS,
    "Boards, keys, webhooks": WORKSPACE_REQUESTS,
    "Connections to Pinterest": CONNECTION_REQUESTS,
    "Lists": LISTS,
    "Lengths and chunks": LENGTHS,
    "Methods": METHODS,
    "Addresses": ADDRESSES,
    "Versions, forms, upgrades": VERSIONS,
    "Headers": HEADERS,
}
EVERYTHING = [hostile for kind in CATALOGUE.values() for hostile in kind]
