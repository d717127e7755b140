"""python -m tests.tools.bench.peers.celery_worker TASK PROCESSES: runs the Celery worker."""

import sys

from tests.tools.bench.peers.celery_app import create_celery, run_worker
from tests.tools.bench.peers.runtime import PeerSettings

if __name__ == "__main__":
    task, processes = sys.argv[1:]
    run_worker(create_celery(PeerSettings(), task), processes)
