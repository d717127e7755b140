"""Generates the gateway's routes from the table of services."""

from deploy.services import DEFAULT_SERVICE, SERVICES, ServiceDescription

INTRODUCTION = """\
# Generated from deploy/services.py by `make schemas`. Do not edit. The Caddyfile imports this file.
"""
ROUTE = """
@{service.name} {{
{paths}
}}
handle @{service.name} {{
	import to {{${service.upstream_variable}}}
}}
"""
DEFAULT_ROUTE = """
# Other paths: {service.name} answers 404, or 501 for operations of PinBridge that Pinflow lacks
handle {{
	import to {{${service.upstream_variable}}}
}}
"""


def build_routes() -> str:
    routes = [_route(service) for service in SERVICES.values() if service.routes]
    return "".join([INTRODUCTION, *routes, DEFAULT_ROUTE.format(service=DEFAULT_SERVICE)])


def _route(service: ServiceDescription) -> str:
    # Several `path` matchers of one name match any of their paths
    return ROUTE.format(
        service=service, paths="\n".join(f"\tpath {route}" for route in service.routes)
    )
