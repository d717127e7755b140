"""Runs the proof: python -m tests.tools.sandbox."""

import asyncio
import os
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr

from shared.pinterest.failures import PinterestFailure
from shared.pinterest.settings import API_URLS
from tests.tools.sandbox.proof import Proof, ProofOptions
from tests.tools.sandbox.recording import RecordingClient, Session

TOKEN_VARIABLE = "PINFLOW_PINTEREST_SANDBOX_TOKEN"
SAFE_HOSTS = {urlsplit(API_URLS["sandbox"]).hostname, "127.0.0.1", "localhost"}
PASSED, FAILED, REFUSED = 0, 1, 2


def main(
    api_url: Annotated[str, typer.Option(help="The API's address with its version.")] = API_URLS[
        "sandbox"
    ],
    board: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Use this board. Default: create one and delete it."),
    ] = None,
    image_url: Annotated[
        str, typer.Option(help="An image that Pinterest can fetch.")
    ] = "https://upload.wikimedia.org/wikipedia/commons/4/47/PNG_transparency_demonstration_1.png",
    link_url: Annotated[
        str, typer.Option(help="The pin's link.")
    ] = "https://example.com/pinflow?from=proof",
    list_seconds: Annotated[
        float, typer.Option(min=0, help="The time that Pinterest has to list the new pin.")
    ] = 120,
    timeout_seconds: Annotated[float, typer.Option(min=1, help="Of one request.")] = 30,
    *,
    public: Annotated[
        bool, typer.Option("--public", help="Create a public board, for a token without _secret.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Also use another host than Pinterest's sandbox.")
    ] = False,
) -> None:
    """Prove Pinflow's client with a token of Pinterest's sandbox.

    Creates a board and a pin, reads, finds and deletes them, and prints each
    step and the limits in every answer. Nothing is left behind.

    Exit codes:
    0: all checks passed
    1: a check failed, or a call was refused
    2: nothing was sent
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        _refuse(f"Set {TOKEN_VARIABLE} to an access token of Pinterest's sandbox.")
    host = urlsplit(api_url).hostname
    if host not in SAFE_HOSTS and not yes:
        _refuse(
            f"{host} is not Pinterest's sandbox: the proof would create a pin there that people "
            "may see. Add --yes if that is what you want."
        )
    options = ProofOptions(image_url, link_url, board, not public, list_seconds)
    typer.echo(f"Pinflow's client and {api_url}")
    sys.exit(asyncio.run(_run(api_url, timeout_seconds, SecretStr(token), options)))


async def _run(
    api_url: str, timeout_seconds: float, token: SecretStr, options: ProofOptions
) -> int:
    client = RecordingClient(api_url, timeout_seconds, typer.echo)
    proof = Proof(Session(client, token), options, typer.echo)
    is_complete, is_good = True, False
    try:
        is_good = await proof.run()
    except PinterestFailure as failure:
        is_complete = False
        typer.echo(f"\nThe proof ended early: {failure}")
    finally:
        await client.close()
    for check in proof.failed_checks:
        typer.echo(f"FAILED: {check}")
    for left in proof.left_behind:
        typer.echo(f"LEFT BEHIND: {left}. Delete it at Pinterest.")
    if is_good:
        typer.echo("\nAll checks passed. Nothing was left behind.")
    elif is_complete:
        typer.echo("\nSome checks failed. Tell the maintainers with the lines above.")
    return PASSED if is_good else FAILED


def _refuse(message: str) -> None:
    typer.echo(f"{message} Nothing was sent.", err=True)
    raise typer.Exit(REFUSED)


if __name__ == "__main__":
    typer.run(main)
