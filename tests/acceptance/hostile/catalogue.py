"""All that is tried, by kind."""

from tests.acceptance.hostile.bodies import CODINGS, JSON_BODIES, UPLOADS
from tests.acceptance.hostile.commands import LATER, LISTS, PINS, WHAT_THERE_IS
from tests.acceptance.hostile.framing import LENGTHS
from tests.acceptance.hostile.lines import ADDRESSES, HEADERS, METHODS, VERSIONS
from tests.acceptance.hostile.requests import Hostile

CATALOGUE: dict[str, list[Hostile]] = {
    "JSON": JSON_BODIES,
    "Content encodings and types": CODINGS,
    "Uploads": UPLOADS,
    "Pins, batches, updates": PINS,
    "Schedules": LATER,
    "Boards, keys, webhooks": WHAT_THERE_IS,
    "Lists": LISTS,
    "Lengths and chunks": LENGTHS,
    "Methods": METHODS,
    "Addresses": ADDRESSES,
    "Versions, forms, upgrades": VERSIONS,
    "Headers": HEADERS,
}
EVERYTHING = [hostile for kind in CATALOGUE.values() for hostile in kind]
