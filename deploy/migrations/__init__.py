"""Migrates the database for `pinflow migrate`.

Each service has its own schema and its own role. All services read the schema `access`.
"""

from deploy.migrations.runner import migrate

__all__ = ["migrate"]
