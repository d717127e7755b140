"""python -m services.access"""

import gc

# Until serve() has set it up: it would walk what is imported again and again, a seventh of the CPU
# of a start
gc.disable()

from services.access.app import create_app
from services.access.config import AccessSettings
from shared.runtime.logging import configure_logging
from shared.runtime.service import serve

if __name__ == "__main__":
    settings = AccessSettings()
    configure_logging(settings, service="access")
    serve(create_app(settings), settings)
