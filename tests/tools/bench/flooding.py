"""`make flood`: one workspace at full speed, as many clients as ingest takes and more; another's
single imports meanwhile.
"""

import uvloop
from rich.console import Console

from tests.tools.bench.flood import Flood, summary, unsettled_rows
from tests.tools.bench.installation import bench_servers, installation
from tests.tools.bench.scenarios.bench import Bench, Lengths
from tests.tools.bench.sources import Sender

CLIENTS = 100


def flood(seconds: float) -> None:
    with bench_servers() as servers, installation(servers) as pinflow:
        one, other = (
            Sender(pinflow.base_url, workspace) for workspace in pinflow.new_workspaces(2)
        )
        flooding = Flood(one, other)
        Bench(pinflow, Lengths()).warm_up()
        ingest = pinflow.deployment.service_url("ingest")
        uvloop.run(
            flooding.run(
                seconds, CLIENTS, lambda: pinflow.usage().rss_bytes, lambda: unsettled_rows(ingest)
            )
        )
    console = Console()
    console.print(f"flood of {seconds:g} s by {CLIENTS} clients")
    for name, value in summary(flooding).items():
        told = (
            "  ".join(f"{key} {one}" for key, one in value.items())
            if isinstance(value, dict)
            else value
        )
        console.print(f"  {name:24} {told}", soft_wrap=True)
