"""Creates the application of each service by the service's name."""

from importlib import import_module
from typing import cast

from fastapi import FastAPI

from deploy.service_settings import find_settings
from deploy.services import SERVICES
from shared.runtime.settings import ServiceSettings


def create_application(name: str, settings: ServiceSettings | None = None) -> FastAPI:
    """Creates a service's application but does not start it.

    Without `settings`, it has the settings of the environment.
    """
    module = import_module(f"services.{name}.app")
    return cast("FastAPI", module.create_app(settings or find_settings(name)()))


def create_applications() -> dict[str, FastAPI]:
    """Creates the applications of all services, by name."""
    return {name: create_application(name) for name in SERVICES}
