"""The table of services agrees with the services themselves."""

import re
from fnmatch import fnmatchcase

import pytest
from fastapi.routing import iter_route_contexts

from deploy.services import CHECKED_SERVICES, DEFAULT_SERVICE, DELIVERY, SERVICES, WORKERS
from services.status.config import StatusSettings
from tests.support.applications import shared_applications

INTERNAL = {"/healthz", "/readyz", "/metrics"}
"""The routes that every process has for its supervisor and its monitoring."""
PATHS = sorted(
    {
        (name, str(route.path))
        for name, application in shared_applications().items()
        for route in iter_route_contexts(application.routes)
        if not str(route.path).startswith("/internal/")
        if name == DEFAULT_SERVICE.name or route.path not in INTERNAL
    }
)


def find_service(path: str) -> str:
    """Returns the service that the gateway sends a path to: the first that matches."""
    return next(
        (
            name
            for name, service in SERVICES.items()
            if any(matches(path, route) for route in service.routes)
        ),
        DEFAULT_SERVICE.name,
    )


def matches(path: str, route: str) -> bool:
    """Matches as Caddy does: `*` at the end stands for anything, elsewhere for one segment."""
    if route.endswith("*"):
        return path.startswith(route[:-1])
    parts, patterns = path.split("/"), route.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_the_gateway_sends_every_endpoints_requests_to_its_service(name: str, path: str) -> None:
    assert find_service(re.sub(r"\{\w+\}", "6f1c2d4e-93a7-4a55-8a0b-5f5f1f0f3c21", path)) == name


def test_no_route_is_without_an_endpoint() -> None:
    concrete = [(name, re.sub(r"\{\w+\}", "x", path)) for name, path in PATHS]
    unused = {
        route
        for name, service in SERVICES.items()
        for route in service.routes
        if not any(owner == name and matches(path, route) for owner, path in concrete)
    }
    assert unused == set()


def test_the_readiness_of_pinflow_checks_the_services_of_the_table() -> None:
    watched = StatusSettings().watched_services
    assert {service.name: service.is_required for service in watched} == {
        name: SERVICES[name].is_required for name in CHECKED_SERVICES
    }
    assert {service.name: service.urls for service in watched} == {
        name: f"http://127.0.0.1:{SERVICES[name].port}" for name in CHECKED_SERVICES
    }


def test_the_readiness_of_pinflow_checks_delivery_only_if_pinterest_is_on() -> None:
    watched = StatusSettings(pinterest_mode="simulated").watched_services[-1]
    assert (watched.name, watched.urls, watched.is_required) == (
        DELIVERY.name,
        f"http://127.0.0.1:{DELIVERY.port}",
        False,
    )


def test_no_two_processes_share_a_port() -> None:
    ports = [service.port for service in SERVICES.values()]
    ports += [worker.port for worker in WORKERS.values()]
    assert len(set(ports)) == len(ports)
