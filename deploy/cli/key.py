"""`internvl key`: API keys of the gateway."""

from typing import Annotated

import typer

from gateway.tenancy.key_file import check_tenant_name, key_digest, new_key

key = typer.Typer(no_args_is_help=True, help="API keys of the gateway.", rich_markup_mode=None, add_completion=False)


@key.callback()
def keys() -> None:
    """API keys of the gateway."""


@key.command("new")
def new(tenant: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make an API key: it is shown this once, and the second line goes below [keys] in the key file."""
    try:
        check_tenant_name(tenant)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="TENANT") from None
    made = new_key()
    typer.echo(f'{made}\n{key_digest(made)} = "{tenant}"')
