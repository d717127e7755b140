"""Finds the settings class of each service and worker by its name."""

from importlib import import_module
from typing import cast

from deploy.services import WORKERS
from shared.runtime.settings import ServiceSettings


def find_settings(name: str) -> type[ServiceSettings]:
    """Returns the class NAMESettings of the config module of the service or the worker."""
    package = WORKERS[name].module if name in WORKERS else f"services.{name}"
    module = import_module(f"{package}.config")
    return cast("type[ServiceSettings]", getattr(module, f"{name.capitalize()}Settings"))
