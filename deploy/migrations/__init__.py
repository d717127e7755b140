"""The database's shape: `pinflow migrate`. One schema and one role a service, and `access`, which
all read.
"""

from deploy.migrations.runner import migrate

__all__ = ["migrate"]
