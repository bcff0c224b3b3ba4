"""The command line: `epalm train | evaluate | caption | ask | info`. Thin: every command is a few calls into the package.

Every setting of a recipe is an option by its dotted name, such as `--training.steps 100`.

Exit codes: 0 done; 2 the user can mend it, and one line says how; 1 a bug of ours, with a traceback.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from epalm.errors import ConfigError, EpalmError
from epalm.progress import show_progress

app = typer.Typer(
    help="Give any frozen language model perception by training almost nothing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Adapter = Annotated[str, typer.Argument(metavar="ADAPTER", help="Directory or hub id of a trained adapter.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_SETTING = re.compile(r"--(?P<name>[a-z_]+(?:\.[a-z_]+)+)(?:=(?P<value>.*))?", re.DOTALL)


@app.command()
def train(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="YAML file, or the name of a recipe of the package.")] = None,
    output: Annotated[Path | None, typer.Option(help="Directory to write the adapter to.")] = None,
    json_file: JsonFile = None,
    settings: Annotated[bool, typer.Option("--settings", help="List every setting and leave.")] = False,
) -> None:
    """Train an adapter. Any setting of the recipe can be changed by its dotted name.

    Example: epalm train toy_image --data.train rows.jsonl --training.steps 500 --output my-adapter
    """
    from epalm.config import describe_settings
    from epalm.training import Recipe, read_recipe, run_recipe

    if settings:
        typer.echo(describe_settings(Recipe))
        return
    overrides = dict(context.obj)
    if output is not None:
        overrides["output"] = output
    with show_progress() as show:
        result = run_recipe(read_recipe(recipe, overrides), show)
    typer.echo(result.as_text())
    _write_json(json_file, result.as_dict())


@app.command()
def evaluate(
    context: typer.Context,
    adapter: Adapter,
    data: Annotated[Path, typer.Option(help="JSON Lines manifest to score on.")],
    json_file: JsonFile = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every prediction, a line each.")
    ] = None,
) -> None:
    """Score an adapter on rows of questions or captions; `--generation.num_beams 1` and its like apply."""
    from epalm.data.manifest import read_manifest
    from epalm.evaluation import Answerer, score_rows

    rows = read_manifest(data)
    answerer = Answerer.load(adapter, context.obj)
    with show_progress() as show:
        evaluation = score_rows(answerer, rows, show)
    typer.echo(evaluation.as_text())
    if predictions is not None:
        evaluation.write_predictions(predictions)
    _write_json(json_file, {"adapter": adapter, "data": str(data), **evaluation.as_dict()})


@app.command()
def caption(
    context: typer.Context,
    adapter: Adapter,
    files: Annotated[list[Path], typer.Argument(help="Files to caption.")],
    as_json: AsJson = False,
) -> None:
    """Caption files."""
    from epalm.evaluation import Answerer

    texts = Answerer.load(adapter, context.obj).caption(files)
    if as_json:
        typer.echo(json.dumps([{"file": str(file), "caption": text} for file, text in zip(files, texts, strict=True)]))
        return
    for file, text in zip(files, texts, strict=True):
        typer.echo(f"{file}: {text}" if len(files) > 1 else text)


@app.command()
def ask(
    context: typer.Context,
    adapter: Adapter,
    file: Annotated[Path, typer.Argument(help="File that the question is about.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    as_json: AsJson = False,
) -> None:
    """Answer a question about a file."""
    from epalm.evaluation import Answerer

    text = Answerer.load(adapter, context.obj).ask(file, question)
    typer.echo(json.dumps({"file": str(file), "question": question, "answer": text}) if as_json else text)


@app.command()
def info(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="ADAPTER|RECIPE", help="A trained adapter, or a recipe.")],
    as_json: AsJson = False,
) -> None:
    """Tell what is in an adapter, or how much a recipe would train."""
    from epalm.training import describe_source

    description = describe_source(source, context.obj)
    typer.echo(json.dumps(description.as_dict()) if as_json else description.as_text())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    _quieten_libraries()
    try:
        overrides, rest = split_settings(arguments)
        app(rest, obj=overrides, prog_name="epalm")
    except EpalmError as error:
        print(f"epalm: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except KeyboardInterrupt:
        print("epalm: interrupted", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print("epalm: this is a bug; please report it with the lines above", file=sys.stderr)
        return 1
    return 0


def split_settings(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take the dotted settings, `--group.name value` or `--group.name=value`, out of the arguments.

    Raises:
        ConfigError: a setting has no value.
    """
    overrides: dict[str, Any] = {}
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        found = _SETTING.fullmatch(argument)
        if found is None:
            rest.append(argument)
            continue
        value = found["value"] if found["value"] is not None else next(waiting, None)
        if value is None or _SETTING.fullmatch(value):
            raise ConfigError(f"{argument}: needs a value")
        try:
            overrides[found["name"]] = yaml.safe_load(value)
        except yaml.YAMLError:
            overrides[found["name"]] = value
    return overrides, rest


def _write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write beside, then rename, so that a file is whole or not there."""
    if path is None:
        return
    try:
        beside = path.with_name(path.name + ".part")
        beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written: {error.strerror}") from None


def _quieten_libraries() -> None:
    """What libraries say in passing belongs in a log, not between a user and an answer."""
    import os

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
