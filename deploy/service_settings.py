"""Finds the settings class of each service by the service's name."""

from importlib import import_module
from typing import cast

from shared.runtime.settings import ServiceSettings


def find_settings(name: str) -> type[ServiceSettings]:
    """Returns the class NAMESettings of services/NAME/config.py."""
    module = import_module(f"services.{name}.config")
    return cast("type[ServiceSettings]", getattr(module, f"{name.capitalize()}Settings"))
