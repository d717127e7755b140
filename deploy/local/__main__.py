"""python -m deploy.local"""

import os

from deploy.local.commands import app
from deploy.local.layout import HOME_VARIABLE

# What the stack's parts are told stands in its configuration: nothing of it may come from the
# caller's shell, where another stack's may be
for name in [name for name in os.environ if name.startswith("PINFLOW_") and name != HOME_VARIABLE]:
    del os.environ[name]
app()
