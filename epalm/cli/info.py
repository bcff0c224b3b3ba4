"""Commands that describe: `epalm info | recipes`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from epalm.cli.options import AsJson
from epalm.errors import ConfigError


def info(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="ADAPTER|RECIPE", help="A trained adapter, or a recipe.")],
    as_json: AsJson = False,
) -> None:
    """Tell what an adapter holds, or what a recipe trains."""
    from epalm.training import describe_source

    description = describe_source(source, context.obj)
    typer.echo(json.dumps(description.as_dict()) if as_json else description.as_text())


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One of them, with all there is to know.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name the recipes that come with the package, or tell what one of them trains, on what, and at which rates."""
    from epalm.recipe.sheet import package_recipes
    from epalm.settings.nearest import nearest

    sheets = package_recipes()
    if name is not None:
        if name not in sheets:
            raise ConfigError(f"recipes: the package has none named '{name}'{nearest(name, sheets)}")
        typer.echo(json.dumps(sheets[name].as_dict()) if as_json else sheets[name].as_text())
    elif as_json:
        typer.echo(json.dumps({each: sheet.as_dict() for each, sheet in sheets.items()}))
    else:
        width = max(map(len, sheets))
        typer.echo("\n".join(f"{each:<{width}}  {sheet.what}" for each, sheet in sheets.items()))
