"""Runs `make demo`: imports a campaign of 500 rows through the gateway and shows the results.

With the simulator of Pinterest it also shows how the pins are delivered.
"""

from pathlib import Path

import httpx
import typer

from deploy.cli.client import PinflowClient
from deploy.cli.imports import import_csv, report
from deploy.demo.make_campaign import CAMPAIGN, fill_campaign
from deploy.local.demo_delivery import describe_result, follow_delivery
from deploy.local.layout import LocalError
from deploy.local.pinterest import OFF, SIMULATED
from deploy.local.stack import Stack
from deploy.services import DELIVERY
from shared.contract.events import JobStatus

TIMEOUT_SECONDS = 30
_WITHOUT_DELIVERY = (
    "\nPinflow runs without the simulator of Pinterest, so nothing was delivered. To see the "
    "delivery: make down && make demo PINTEREST=simulated"
)


def require_no_real_account(mode: str) -> None:
    """Raises LocalError if the demo's pins could go to Pinterest."""
    if mode not in {OFF, SIMULATED}:
        raise LocalError(
            f"The demo would publish 480 pins on Pinterest: PINFLOW_PINTEREST_MODE is {mode} in "
            ".pinflow/settings. Nothing was started. Remove the line to run the demo, or import a "
            "file of your own with: .venv/bin/pinflow import FILE"
        )


def run_demo(stack: Stack, *, stays_up: bool) -> int:
    """Submits the campaign, prints the results and the next steps.

    Returns the exit code: 0 if every row has a result and the import's status is not `failed`.
    Raises LocalError, also if the delivery does not go on.
    """
    env = stack.env()
    base_url, api_key = env["PINFLOW_BASE_URL"], env["PINFLOW_API_KEY"]
    file = stack.directory / "campaign.csv"
    file.write_text(fill_campaign(_accounts(base_url, api_key)), encoding="utf-8")
    typer.echo(f"\nImporting {CAMPAIGN.name} (500 rows) through {base_url}\n")
    client = PinflowClient(base_url, api_key, TIMEOUT_SECONDS)
    job = import_csv(client, CAMPAIGN.name, file.read_bytes())
    report(job)
    typer.echo(_explain_result(file, is_repeated=job["existing_rows"] > job["created_rows"]))
    if (simulator_url := stack.simulator_url) is not None:
        delivery = follow_delivery(client, lambda: stack.states().get(DELIVERY.name, "missing"))
        typer.echo(describe_result(client, delivery, simulator_url))
    else:
        typer.echo(_WITHOUT_DELIVERY)
    typer.echo(
        _next_steps(job["id"], base_url, stays_up=stays_up, is_delivered=bool(simulator_url))
    )
    settled = job["processed_rows"] == job["total_rows"] and job["status"] != JobStatus.FAILED
    return 0 if settled else 1


def _accounts(base_url: str, api_key: str) -> list[tuple[str, list[str]]]:
    """Returns the workspace's account ids, each with its board ids."""
    pinterest = f"{base_url}/v1/pinterest"
    with httpx.Client(headers={"X-API-Key": api_key}, timeout=10, trust_env=False) as client:
        account_ids = _read_ids(client, f"{pinterest}/accounts")
        return [
            (account_id, _read_ids(client, f"{pinterest}/boards?account_id={account_id}"))
            for account_id in account_ids
        ]


def _read_ids(client: httpx.Client, url: str) -> list[str]:
    answer = client.get(url)
    if not answer.is_success:
        raise LocalError(
            f"The demo can't read the accounts and boards: {answer.text}\n"
            "Run make clean, then make demo."
        )
    return [str(item["id"]) for item in answer.json()]


def _explain_result(file: Path, *, is_repeated: bool) -> str:
    explanation = (
        "An earlier run imported the same file. Its rows are now existing: nothing was "
        "published twice."
        if is_repeated
        else "The file has ten invalid rows and one repeated key on purpose.\n"
        "Run make demo again: all valid rows are then existing, and nothing is published twice."
    )
    return f"\n{explanation}\nThe imported file: {file}"


def _next_steps(job_id: str, base_url: str, *, stays_up: bool, is_delivered: bool) -> str:
    first_step = (
        f"Pinflow keeps running until make down. Next steps:\n  open {base_url}/docs"
        if stays_up
        else "The demo stops Pinflow now. Next steps:\n  make up"
    )
    steps = [
        first_step,
        f"  .venv/bin/pinflow imports show {job_id} --all",
        "  .venv/bin/pinflow imports list",
    ]
    if is_delivered:
        steps += [
            "  .venv/bin/pinflow deliveries",
            "  .venv/bin/pinflow pins list --status failed",
        ]
    return "\n".join([*steps, ""])
