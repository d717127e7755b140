"""python -m tests.tools.bench.peers.celery_worker TASK PROCESSES: runs the Celery worker."""

import sys

from shared.runtime.process import configure_gc
from tests.tools.bench.peers.celery_app import create_celery
from tests.tools.bench.peers.runtime import PeerSettings

if __name__ == "__main__":
    task, processes = sys.argv[1:]
    app = create_celery(PeerSettings(), task)
    configure_gc()
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning")
    app.worker_main(["worker", "--pool", "prefork", "--concurrency", processes, *quiet])
