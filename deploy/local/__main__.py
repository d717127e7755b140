"""Runs the commands of the local stack: python -m deploy.local."""

import os

from deploy.local.commands import app
from deploy.local.layout import HOME_VARIABLE

# Only its own files configure the stack. The caller's shell may have the variables of a different
# stack
for name in [name for name in os.environ if name.startswith("PINFLOW_") and name != HOME_VARIABLE]:
    del os.environ[name]
app()
