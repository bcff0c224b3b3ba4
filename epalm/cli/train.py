"""Commands that make an adapter: `epalm train` and `epalm convert`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from epalm.cli.errors import warn
from epalm.cli.options import JsonFile, NoJava, NoStore
from epalm.cli.results import check_results, write_json
from epalm.errors import ConfigError
from epalm.runtime.progress import show_progress


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="YAML file, whose relative paths start at the file, or a recipe of the package, such as toy_image.",
        ),
    ] = None,
    recipe_option: Annotated[
        str | None, typer.Option("--recipe", metavar="RECIPE", help="The same, as an option.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory to write the adapter to.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was stopped in DIR.")] = False,
    json_file: JsonFile = None,
    no_store: NoStore = False,
    no_java: NoJava = False,
    settings: Annotated[bool, typer.Option("--settings", help="List every setting and leave.")] = False,
) -> None:
    """Train an adapter on captions, and questions with answers."""
    from epalm.recipe import Recipe, read_recipe

    if settings:
        from epalm.settings.names import describe_settings

        typer.echo(describe_settings(Recipe))
        return
    if recipe is not None and recipe_option is not None:
        raise ConfigError(f"--recipe: '{recipe_option}' is given as well as '{recipe}'; leave one of them out")
    overrides = _without_store(context.obj) if no_store else dict(context.obj)
    if output is not None:
        overrides["output"] = output
    source = recipe_option if recipe is None else recipe
    full_recipe = read_recipe(source, overrides)
    if source is None:
        raise ConfigError(
            "train: no recipe is named; give a YAML file or a name that `epalm recipes` lists, such as toy_image"
        )
    rows = {"data.train": full_recipe.data.train, "data.validation": full_recipe.data.validation}
    check_results([("--json", json_file)], {"--output": full_recipe.output, "RECIPE": Path(source), **rows})
    from epalm.runtime.processes import is_main_process
    from epalm.training import run_recipe

    is_main = is_main_process()
    with show_progress() if is_main else nullcontext() as on_progress:
        result = run_recipe(full_recipe, on_progress, resume=resume, on_warning=warn, java=not no_java)
    if is_main:
        write_json(json_file, result.as_dict())
        typer.echo(result.as_text())


def convert(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth of the original code.")],
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory to write the adapter to.")] = None,
) -> None:
    """Make an adapter of a checkpoint of the original eP-ALM code."""
    from epalm.training.conversion import convert_original

    overrides = dict(context.obj)
    if output is not None:
        overrides["output"] = output
    model = convert_original(checkpoint, overrides, warn)
    typer.echo(f"{model.summary()}\nadapter written to {overrides['output']}")


def _without_store(overrides: dict[str, Any]) -> dict[str, Any]:
    """The same settings, with no features kept."""
    if "data.store" in overrides:
        raise ConfigError("--no-store: data.store is given as well; leave one of them out")
    return {**overrides, "data.store": False}
