"""Generates the gateway's routes from the table of services."""

from deploy.services import DEFAULT_SERVICE, SERVICES, ServiceDescription

INTRODUCTION = """\
# Made from deploy/services.py by `make schemas`; a test compares. The Caddyfile imports it.
"""
ROUTE = """
@{service.name} path {paths}
handle @{service.name} {{
	import to {{${service.upstream_variable}}}
}}
"""
DEFAULT_ROUTE = """
handle {{
	import to {{${service.upstream_variable}}}
}}
"""


def build_routes() -> str:
    routes = [_route(service) for service in SERVICES.values() if service.routes]
    return "".join([INTRODUCTION, *routes, DEFAULT_ROUTE.format(service=DEFAULT_SERVICE)])


def _route(service: ServiceDescription) -> str:
    return ROUTE.format(service=service, paths=" ".join(service.routes))
