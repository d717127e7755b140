"""Generates the gateway's routes from the table of services."""

from deploy.services import FALLBACK, SERVICES, ServiceDescription

INTRODUCTION = """\
# Made from deploy/services.py by `make schemas`; a test compares. The Caddyfile imports it.
"""
ROUTE = """
@{service.name} path {paths}
handle @{service.name} {{
	import to {{${service.upstream_variable}}}
}}
"""
FALLBACK_ROUTE = """
handle {{
	import to {{${service.upstream_variable}}}
}}
"""


def text() -> str:
    routes = [_route(service) for service in SERVICES.values() if service.routes]
    return "".join([INTRODUCTION, *routes, FALLBACK_ROUTE.format(service=FALLBACK)])


def _route(service: ServiceDescription) -> str:
    return ROUTE.format(service=service, paths=" ".join(service.routes))
