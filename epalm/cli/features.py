"""The feature store on the command line: `epalm features build | info | verify | import`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from epalm.cli.options import JsonFile
from epalm.cli.results import check_results, write_json
from epalm.errors import DataError

features_app = typer.Typer(
    help="What encoders gave, on disk: built ahead by any number of processes, or brought from elsewhere.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Place = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A store, or a directory of stores; without, the user's cache.")
]
_BUILD_HELP = """\b
epalm features build toy_image --data.train rows.jsonl
accelerate launch $(which epalm) features build recipe.yaml --data.store /shared/features

Every setting of a recipe is an option by its dotted name; `epalm train --settings` lists them."""
_IMPORT_HELP = """\b
epalm features import features.npz --output my-features --made-by "MobileNetV2, last pooling"
epalm train recipe.yaml --data.features.image my-features

docs/features.md says what the files must hold."""


@features_app.command(epilog=_BUILD_HELP)
def build(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="YAML file, or a recipe of the package, such as toy_image.")
    ] = None,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", help="Every token, (K, N, E), even where the recipe's adapter reads one a level."),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Perceive every file of a recipe's rows that is not in its store yet."""
    from epalm.recipe import read_recipe

    settings = read_recipe(recipe, context.obj)
    rows = {"data.train": settings.data.train, "data.validation": settings.data.validation}
    check_results([("--json", json_file)], {"RECIPE": Path(recipe) if recipe else None, **rows})
    from epalm.runtime.processes import all_processes
    from epalm.runtime.progress import show_progress
    from epalm.training.feature_building import build_features

    is_main = all_processes().rank == 0
    with show_progress() if is_main else nullcontext() as on_progress:
        result = build_features(settings, on_progress, every_token=tokens)
    if is_main:
        write_json(json_file, result.as_dict())
        typer.echo(result.as_text())


@features_app.command()
def info(folder: Place = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Tell what is in a store, or in every store of a directory."""
    from epalm.data.store.report import report_on

    reports = [report_on(store) for store in _stores(folder)]
    if as_json:
        typer.echo(json.dumps([report.as_dict() for report in reports]))
    else:
        typer.echo("\n\n".join(report.as_text() for report in reports))


@features_app.command()
def verify(folder: Place = None) -> None:
    """Read every byte of a store, to see whether it is what was written; damage is built anew when it is next used."""
    from epalm.data.store.report import report_on
    from epalm.runtime.progress import show_progress

    damaged = 0
    stores = _stores(folder)
    for store in stores:
        with show_progress() as on_progress:
            report = report_on(store, checksums=True, on_progress=on_progress)
        damaged += len(report.damaged)
        typer.echo(report.as_text())
    if damaged:
        count = f"{damaged} damaged file{'s' if damaged > 1 else ''}"
        raise DataError(
            f"{folder or stores[0].parent}: {count}; features that were built are built again when next used, "
            "imported ones must be imported again"
        )


@features_app.command("import", epilog=_IMPORT_HELP)
def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Features with their ids: npz, safetensors, parquet.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Store to put them into; made if it is not there.")],
    made_by: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The encoder, in words; kept with what is trained on them.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        typer.Option(help="What to store in; without, as they are in the file."),
    ] = None,
) -> None:
    """Make a store of features that any encoder made, in any framework."""
    from epalm.data.store.importing import import_features
    from epalm.data.store.report import report_on

    import_features(source, output, made_by=made_by, dtype=dtype)
    typer.echo(report_on(output).as_text())


def _stores(folder: Path | None) -> list[Path]:
    from epalm.data.store import default_place, stores_below

    place = folder or default_place()
    stores = stores_below(place)
    if not stores:
        raise DataError(f"{place}: there is no feature store; `epalm features build` makes one")
    return stores
