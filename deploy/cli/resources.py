"""Reads lists and single resources from Pinflow and prints them."""

from collections.abc import Mapping

from deploy.cli.client import Parameters, PinflowClient
from deploy.cli.tables import print_fields, print_json, print_listing


def show_list(
    client: PinflowClient,
    path: str,
    filters: Parameters,
    limit: int,
    columns: Mapping[str, str],
    *,
    empty_message: str,
    as_json: bool,
) -> None:
    """Prints the first `limit` items of a list, then closes the client.

    `columns` has the path of each column's value, by its header.
    """
    with client:
        listing = client.list_items(path, filters, limit)
    print_listing(listing, columns, empty_message=empty_message, as_json=as_json)


def show_resource(client: PinflowClient, path: str, *, as_json: bool) -> None:
    """Prints all fields of a resource, then closes the client."""
    with client:
        document = client.read(path)
    print_json(document) if as_json else print_fields(document)
