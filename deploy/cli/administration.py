"""What operators do: the database's shape, topics, workspaces, keys, accounts and boards."""

import json
import os
from types import ModuleType
from typing import Annotated
from uuid import UUID

import typer

from deploy.cli.exit_codes import fail
from deploy.cli.tables import print_rows
from shared.access.keys import Scope

topics = typer.Typer(no_args_is_help=True, help="Kafka's topics.")
workspaces = typer.Typer(no_args_is_help=True, help="Workspaces: each sees only its own.")
keys = typer.Typer(no_args_is_help=True, help="API keys of a workspace.")
accounts = typer.Typer(no_args_is_help=True, help="Pinterest accounts of a workspace.")
boards = typer.Typer(no_args_is_help=True, help="Boards of an account.")

Workspace = Annotated[
    UUID, typer.Option("--workspace", envvar="PINFLOW_WORKSPACE_ID", help="The workspace's id.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Many = Annotated[int, typer.Option(min=0, max=1000)]


def migrate() -> None:
    """Bring the database to the newest schema.

    PINFLOW_INGEST_PASSWORD and so on give the services' roles theirs.
    """
    _backend().migrate_database(os.environ)
    typer.echo("The database is at the newest schema.")


@topics.command("create")
def create_missing_topics() -> None:
    """Create the topics that are missing, with as many partitions as PINFLOW_TOPIC_PARTITIONS says.

    Topics that exist stay as they are. If records still wait on topics of an older version, nothing
    is created.
    """
    made, remarks = _backend().create_topics()
    typer.echo(f"Created: {', '.join(made)}" if made else "All topics are there.")
    for remark in remarks:
        typer.echo(remark)


@workspaces.command("create")
def new_workspace(
    name: str,
    *,
    number_of_accounts: Annotated[int, typer.Option("--accounts", min=0, max=100)] = 0,
    number_of_boards: Annotated[int, typer.Option("--boards", min=0, max=1000)] = 0,
    as_json: AsJson = False,
) -> None:
    """A workspace with an API key, accounts, and boards on each. The key is shown this once."""
    made = _backend().create_workspace(name, accounts=number_of_accounts, boards=number_of_boards)
    document = {
        "workspace_id": str(made.id),
        "api_key": made.api_key,
        "accounts": [
            {"id": str(account.id), "boards": account.boards} for account in made.accounts
        ],
    }
    if as_json:
        typer.echo(json.dumps(document))
        return
    typer.echo(f"workspace  {made.id}\nAPI key    {made.api_key}   (shown this once)")
    for account in made.accounts:
        typer.echo(f"account    {account.id}   boards: {', '.join(account.boards) or 'none'}")


@workspaces.command("list")
def list_workspaces(*, as_json: AsJson = False) -> None:
    """All workspaces."""
    print_rows(
        _backend().with_operator(lambda operator: operator.list_workspaces()), as_json=as_json
    )


@keys.command("create")
def new_key(
    name: str,
    workspace: Workspace,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Repeat for several; default: all.")
    ] = None,
    account: Annotated[
        list[UUID] | None,
        typer.Option(help="An account that it may see and publish to; repeat. Default: all."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """A new key, shown this once."""
    scopes = scope or list(Scope)
    made, plain = _backend().create_key(workspace, name, scopes, account or ())
    if as_json:
        accounts = None if account is None else [str(one) for one in account]
        typer.echo(
            json.dumps(
                {"id": str(made["id"]), "api_key": plain, "scopes": scopes, "account_ids": accounts}
            )
        )
    else:
        typer.echo(f"key {made['id']} ({', '.join(scopes)})\n{plain}   (shown this once)")


@keys.command("list")
def list_keys(workspace: Workspace, *, as_json: AsJson = False) -> None:
    """The workspace's keys, whenever they were revoked (the keys themselves are not shown)."""
    columns = (
        "id",
        "name",
        "prefix",
        "scopes",
        "account_ids",
        "last_used_at",
        "created_at",
        "revoked_at",
    )
    print_rows(
        _backend().with_operator(lambda operator: operator.list_keys(workspace)),
        columns,
        as_json=as_json,
    )


@keys.command("revoke")
def revoke_key(key_id: UUID) -> None:
    """Revoke a key. Services may accept it for up to ten more seconds."""
    if not _backend().with_operator(lambda operator: operator.revoke_key(key_id)):
        fail(f"There is no key {key_id}. See: pinflow keys list")
    typer.echo(f"Key {key_id} is revoked.")


@accounts.command("add")
def add_account(name: str, workspace: Workspace) -> None:
    """An account that rows can name as account_id."""
    typer.echo(
        _backend().with_operator(lambda operator: operator.add_account(workspace, name=name))
    )


@accounts.command("list")
def list_accounts(workspace: Workspace, *, as_json: AsJson = False) -> None:
    """The workspace's accounts."""
    columns = ("id", "display_name", "username", "created_at", "revoked_at")
    print_rows(
        _backend().with_operator(lambda operator: operator.list_accounts(workspace)),
        columns,
        as_json=as_json,
    )


@accounts.command("restore")
def restore_account(account: UUID, workspace: Workspace) -> None:
    """Let an account that was revoked be published to again."""
    if not _backend().with_operator(lambda operator: operator.restore_account(workspace, account)):
        fail(f"The workspace has no account {account}. See: pinflow accounts list")
    typer.echo(f"Account {account} is published to again.")


@boards.command("add")
def add_board(
    account: UUID,
    board_id: str,
    workspace: Workspace,
    name: Annotated[str | None, typer.Option()] = None,
) -> None:
    """A board of an account, under the id that rows name as board_id."""
    _backend().with_operator(
        lambda operator: operator.add_board(workspace, account, board_id, name=name or board_id)
    )
    typer.echo(f"Board {board_id} belongs to account {account}.")


@boards.command("list")
def list_boards(account: UUID, workspace: Workspace, *, as_json: AsJson = False) -> None:
    """An account's boards."""
    found = _backend().with_operator(lambda operator: operator.list_boards(workspace, account))
    if found is None:
        fail(f"The workspace has no account {account}. See: pinflow accounts list")
    print_rows(found, ("board_id", "name", "privacy", "created_at"), as_json=as_json)


def _backend() -> ModuleType:
    from deploy.cli import backend  # noqa: PLC0415 - a second, which pinflow import need not wait

    return backend
