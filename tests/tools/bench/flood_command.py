"""`make flood`: runs a flood and prints its figures."""

import uvloop
from rich.console import Console

from tests.tools.bench.flood import Flood, read_unsettled_rows, summarize_flood
from tests.tools.bench.installation import bench_servers, installation
from tests.tools.bench.scenarios.bench import Bench, Lengths
from tests.tools.bench.sources import Sender

CLIENTS = 100
"""More clients than ingest handles at a time."""


def run_flood(seconds: float) -> None:
    with bench_servers() as servers, installation(servers) as pinflow:
        flooding_sender, other_sender = (
            Sender(pinflow.base_url, workspace) for workspace in pinflow.new_workspaces(2)
        )
        flood = Flood(flooding_sender, other_sender)
        Bench(pinflow, Lengths()).warm_up()
        ingest = pinflow.deployment.service_url("ingest")
        uvloop.run(
            flood.run(
                seconds,
                CLIENTS,
                lambda: pinflow.usage().rss_bytes,
                lambda: read_unsettled_rows(ingest),
            )
        )
    console = Console()
    console.print(f"Flood of {seconds:g} s by {CLIENTS} clients")
    for name, value in summarize_flood(flood).items():
        text = (
            "  ".join(f"{key} {number}" for key, number in value.items())
            if isinstance(value, dict)
            else value
        )
        console.print(f"  {name:24} {text}", soft_wrap=True)
