"""Commands on the database's schema, topics, workspaces, keys, accounts and boards."""

import json
import os
from types import ModuleType
from typing import Annotated
from uuid import UUID

import typer

from deploy.cli.connected_workspace import connect_workspace, read_simulated_settings
from deploy.cli.exit_codes import fail
from deploy.cli.options import AsJson
from deploy.cli.tables import print_rows, printable
from shared.access.keys import Scope

commands = typer.Typer()
topics = typer.Typer(no_args_is_help=True, help="Create Kafka's topics.")
workspaces = typer.Typer(
    no_args_is_help=True,
    help="Create and list workspaces. A workspace sees only its own accounts, pins and imports.",
)
keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys of a workspace.")
accounts = typer.Typer(
    no_args_is_help=True,
    help="Connect accounts of a workspace to Pinterest; add, list and restore accounts.",
)
boards = typer.Typer(no_args_is_help=True, help="Add and list boards of an account.")

Workspace = Annotated[
    UUID, typer.Option("--workspace", envvar="PINFLOW_WORKSPACE_ID", help="The workspace's id.")
]


@commands.command()
def migrate() -> None:
    """Bring the database to the newest schema.

    Also sets the passwords of the services' database roles, from
    PINFLOW_INGEST_PASSWORD and the like. PINFLOW_DATABASE_URL must be the URL
    of the database's owner.
    """
    _load_backend().migrate_database(os.environ)
    typer.echo("The database is at the newest schema.")


@topics.command("create")
def create_missing_topics() -> None:
    """Create the topics that are missing.

    Each gets PINFLOW_TOPIC_PARTITIONS partitions, but dead-letters always 3.
    Existing topics are not changed. If records still wait on topics of an
    older version, nothing is created.
    """
    created, remarks = _load_backend().create_topics()
    typer.echo(f"Created: {', '.join(created)}" if created else "All topics exist.")
    for remark in remarks:
        typer.echo(remark)


@workspaces.command("create")
def new_workspace(
    name: Annotated[str, typer.Argument(help="The name that lists show.")],
    *,
    number_of_accounts: Annotated[
        int, typer.Option("--accounts", min=0, max=100, help="The number of accounts to add.")
    ] = 0,
    number_of_boards: Annotated[
        int,
        typer.Option("--boards", min=0, max=1000, help="The number of boards to add per account."),
    ] = 0,
    is_connected: Annotated[
        bool,
        typer.Option(
            "--connected",
            help="Connect the accounts to new users of the simulator of Pinterest, which have the "
            "boards. Needs PINFLOW_BASE_URL and PINFLOW_PINTEREST_SIMULATOR_URL.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a workspace with an API key, and optionally with accounts and boards.

    The key is shown only now: Pinflow stores only its hash.
    """
    if is_connected and not number_of_accounts:
        fail("--connected needs accounts. Add --accounts 1, and --boards 3 for boards.")
    settings = read_simulated_settings() if is_connected else None
    workspace = _load_backend().create_workspace(
        name, accounts=number_of_accounts, boards=0 if is_connected else number_of_boards
    )
    if settings is not None:
        workspace = connect_workspace(settings, workspace, boards=number_of_boards)
    document = {
        "workspace_id": str(workspace.id),
        "api_key": workspace.api_key,
        "accounts": [
            {"id": str(account.id), "boards": account.boards} for account in workspace.accounts
        ],
    }
    if as_json:
        typer.echo(json.dumps(document))
        return
    typer.echo(
        f"workspace  {workspace.id}\nAPI key    {workspace.api_key}   (shown only now: copy it)"
    )
    for account in workspace.accounts:
        typer.echo(f"account    {account.id}   boards: {', '.join(account.boards) or 'none'}")


@workspaces.command("list")
def list_workspaces(*, as_json: AsJson = False) -> None:
    """List all workspaces."""
    rows = _load_backend().with_operator(lambda operator: operator.list_workspaces())
    print_rows(rows, as_json=as_json)


@keys.command("create")
def new_key(
    name: Annotated[str, typer.Argument(help="The name that lists show.")],
    workspace: Workspace,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="A scope of the key. Repeat it for several. Default: all scopes."),
    ] = None,
    account: Annotated[
        list[UUID] | None,
        typer.Option(
            help="An account that the key may see and publish to. Repeat it for several. Default: "
            "all accounts."
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create an API key.

    The key is shown only now: Pinflow stores only its hash.
    """
    scopes = scope or list(Scope)
    key, secret = _load_backend().create_key(workspace, name, scopes, account or ())
    if as_json:
        account_ids = None if account is None else [str(account_id) for account_id in account]
        document = {
            "id": str(key["id"]),
            "api_key": secret,
            "scopes": scopes,
            "account_ids": account_ids,
        }
        typer.echo(json.dumps(document))
    else:
        typer.echo(
            f"key {key['id']} of workspace {workspace} ({', '.join(scopes)})\n"
            f"{secret}   (shown only now: copy it)"
        )


@keys.command("list")
def list_keys(workspace: Workspace, *, as_json: AsJson = False) -> None:
    """List the workspace's keys, revoked ones included. The secrets are not shown."""
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
    rows = _load_backend().with_operator(lambda operator: operator.list_keys(workspace))
    print_rows(rows, columns, as_json=as_json)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[UUID, typer.Argument(help="The key's id, from pinflow keys list.")],
) -> None:
    """Revoke a key. Services may accept it for up to ten more seconds."""
    if not _load_backend().with_operator(lambda operator: operator.revoke_key(key_id)):
        fail(f"There is no key {key_id}. See all keys with: pinflow keys list")
    typer.echo(f"Key {key_id} is revoked. Services may accept it for up to ten more seconds.")


@accounts.command("add")
def add_account(
    name: Annotated[str, typer.Argument(help="The account's display name.")], workspace: Workspace
) -> None:
    """Add an account and print its id, which rows name as account_id."""
    account_id = _load_backend().with_operator(
        lambda operator: operator.add_account(workspace, name=name)
    )
    typer.echo(account_id)


@accounts.command("list")
def list_accounts(workspace: Workspace, *, as_json: AsJson = False) -> None:
    """List the workspace's accounts, and their connections to Pinterest. For operators.

    Reads the database: the workspace is the one of --workspace, whatever your
    API key is. In a checkout, .pinflow/env has the local stack's workspace.
    A connection works only in the mode in which it was made (PINFLOW_PINTEREST_MODE).
    """
    columns = (
        "id",
        "display_name",
        "username",
        "connection",
        "mode",
        "health_status",
        "health_code",
        "scopes",
        "token_expires_at",
        "created_at",
        "revoked_at",
    )
    named = _load_backend().with_operator(lambda operator: operator.find_workspace(workspace))
    if named is None:
        fail(f"There is no workspace {workspace}. See all workspaces: pinflow workspaces list")
    rows = _load_backend().with_operator(lambda operator: operator.list_accounts(workspace))
    if not as_json:  # apart from the table, which scripts read
        typer.echo(f"Accounts of the workspace {printable(named['name'])} ({workspace}):", err=True)
    print_rows(rows, columns, as_json=as_json)


@accounts.command("restore")
def restore_account(
    account: Annotated[UUID, typer.Argument(help="The account's id, from pinflow accounts list.")],
    workspace: Workspace,
) -> None:
    """Undo the revocation of an account.

    An account that was connected to Pinterest stays disconnected until it is
    connected again.
    """
    restored = _load_backend().with_operator(
        lambda operator: operator.restore_account(workspace, account)
    )
    if restored is None:
        fail(f"The workspace has no account {account}. See its accounts: pinflow accounts list")
    if restored["is_disconnected"]:
        typer.echo(
            f"Account {account} is restored. It has no access to Pinterest: connect it with "
            f"pinflow accounts connect --account {account}"
        )
    else:
        typer.echo(f"Account {account} is restored: pins can be published to it again.")


@boards.command("add")
def add_board(
    account: Annotated[UUID, typer.Argument(help="The account's id, from pinflow accounts list.")],
    board_id: Annotated[str, typer.Argument(help="The id that rows name as board_id.")],
    workspace: Workspace,
    name: Annotated[
        str | None, typer.Option(help="The board's display name. Default: its id.")
    ] = None,
) -> None:
    """Add a board to an account."""
    _load_backend().with_operator(
        lambda operator: operator.add_board(workspace, account, board_id, name=name or board_id)
    )
    typer.echo(f"Board {board_id} belongs to account {account}.")


@boards.command("list")
def list_boards(
    account: Annotated[UUID, typer.Argument(help="The account's id, from pinflow accounts list.")],
    workspace: Workspace,
    *,
    as_json: AsJson = False,
) -> None:
    """List an account's boards."""
    rows = _load_backend().with_operator(lambda operator: operator.list_boards(workspace, account))
    if rows is None:
        fail(f"The workspace has no account {account}. See its accounts: pinflow accounts list")
    print_rows(rows, ("board_id", "name", "privacy", "created_at"), as_json=as_json)


def _load_backend() -> ModuleType:
    # Not at the top: the import takes a second, and other commands do not need it
    from deploy.cli import backend  # noqa: PLC0415

    return backend
