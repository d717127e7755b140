"""`make demo`: a campaign of 500 rows through the gateway, and what became of each."""

from pathlib import Path

import httpx
import typer

from deploy.cli.client import PinflowClient
from deploy.cli.imports import report, watch
from deploy.demo.make_campaign import CAMPAIGN, campaign_for
from deploy.local.layout import LocalError
from deploy.local.stack import Stack
from shared.contract.events import JobStatus

PATIENCE_SECONDS = 30


def run_demo(stack: Stack, *, stays_up: bool) -> int:
    """Import the campaign, show the outcome and how to go on.

    Returns the exit code: 0 when every row has settled. Raises LocalError.
    """
    env = stack.env()
    base_url, api_key = env["PINFLOW_BASE_URL"], env["PINFLOW_API_KEY"]
    file = stack.directory / "campaign.csv"
    file.write_text(campaign_for(_accounts(base_url, api_key)), encoding="utf-8")
    typer.echo(f"\nImporting {CAMPAIGN.name} (500 rows) through {base_url}\n")
    client = PinflowClient(base_url, api_key, PATIENCE_SECONDS)
    job = watch(client, client.submit_csv(file.read_bytes(), CAMPAIGN.name, strict=False))
    report(job)
    typer.echo(_what_it_shows(file, again=job["existing_rows"] > job["created_rows"]))
    typer.echo(_where_to_look(job["id"], base_url, stays_up=stays_up))
    settled = job["processed_rows"] == job["total_rows"] and job["status"] != JobStatus.FAILED
    return 0 if settled else 1


def _accounts(base_url: str, api_key: str) -> list[tuple[str, list[str]]]:
    """Returns the workspace's account ids, each with its board ids."""
    pinterest = f"{base_url}/v1/pinterest"
    with httpx.Client(headers={"X-API-Key": api_key}, timeout=10, trust_env=False) as client:
        account_ids = _ids_at(client, f"{pinterest}/accounts")
        return [
            (account_id, _ids_at(client, f"{pinterest}/boards?account_id={account_id}"))
            for account_id in account_ids
        ]


def _ids_at(client: httpx.Client, url: str) -> list[str]:
    answer = client.get(url)
    if not answer.is_success:
        raise LocalError(
            f"Accounts and boards could not be read: {answer.text}\nRun make clean, then make demo."
        )
    return [str(item["id"]) for item in answer.json()]


def _what_it_shows(file: Path, *, again: bool) -> str:
    first = (
        "All published rows were there before: importing the same file again publishes nothing "
        "twice."
        if again
        else "The file has ten faulty rows and one repeated key on purpose.\n"
        "Run make demo again: the same rows are then existing."
    )
    return f"\n{first}\nThe file as it was sent: {file}"


def _where_to_look(job_id: str, base_url: str, *, stays_up: bool) -> str:
    start = (
        f"Pinflow was running before and goes on, until make down. Look around:\n  {base_url}/docs"
    )
    if not stays_up:
        start = "To look around, keep it running:\n  make up (it prints where the API reference is)"
    return f"""{start}
  .venv/bin/pinflow imports show {job_id} --all
  .venv/bin/pinflow imports list
"""
