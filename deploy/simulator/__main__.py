"""Runs the simulator: python -m deploy.simulator."""

import argparse
from dataclasses import fields
from pathlib import Path

from deploy.simulator.options import Options
from deploy.simulator.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.simulator", description=__doc__)
    defaults = {field.name: field.default for field in fields(Options)}
    parser.add_argument("--host", default=defaults["host"], help="the address to listen at")
    parser.add_argument("--port", type=int, default=defaults["port"], help="the port to listen at")
    parser.add_argument(
        "--data", type=Path, help="the SQLite file with the state; without it: in memory"
    )
    parser.add_argument("--app-id", default=defaults["app_id"], help="the app's id")
    parser.add_argument("--app-secret", default=defaults["app_secret"], help="the app's secret")
    parser.add_argument(
        "--redirect-url",
        action="append",
        default=[],
        dest="redirect_urls",
        help="a registered redirect URL; without any: all on a loopback address",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=defaults["seed"],
        help="decides which requests meet an injected fault",
    )
    parser.add_argument(
        "--writes-per-minute",
        type=int,
        default=defaults["writes_per_minute"],
        metavar="N",
        help="the limit of each user's writes in a minute; Pinterest's is the default",
    )
    values = vars(parser.parse_args())
    serve(Options(**{**values, "redirect_urls": tuple(values["redirect_urls"])}))


if __name__ == "__main__":
    main()
