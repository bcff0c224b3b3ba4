"""The command line, thin over the package: `epalm train | evaluate | caption | ask | info | recipes | ...`.

Every setting of a recipe is an option by its dotted name, such as `--training.steps 100`.

Exit codes: 0 done; 2 the user can mend it, and one line says how; 130 interrupted, 143 terminated; 1 a bug of ours,
with a traceback.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epalm.cli.data import SCORE_HELP, data_app, score
from epalm.cli.errors import quieten_libraries, refuse, usage, users_trouble, warn
from epalm.cli.features import features_app
from epalm.cli.options import (
    ANSWER_SETTINGS,
    ASK_HELP,
    CAPTION_HELP,
    CONVERT_HELP,
    EVALUATE_HELP,
    INFO_HELP,
    KINDS_HELP,
    RECIPES_HELP,
    SETTINGS,
    TRAIN_HELP,
    Adapter,
    AsJson,
    JsonFile,
    NoJava,
    NoStore,
    Others,
    Sounds,
)
from epalm.errors import ConfigError, EpalmError, TrainingStopped
from epalm.recipe.overrides import split_settings
from epalm.runtime.outputs import check_writable, write_whole
from epalm.runtime.progress import show_progress

if TYPE_CHECKING:
    from epalm.evaluation.asking import Asked
    from epalm.recipe import DataSettings

app = typer.Typer(
    help="Give any frozen language model perception by training almost nothing.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(features_app, name="features")
_UsageError: Any = typer.BadParameter.__base__
"""What typer raises where the command line is wrong; typer has it from click, or brings a click of its own."""
_INTERRUPTED = 130
"""Exit code of a command that was stopped by Ctrl-C; typer may give it back, too."""
_ROWS = ("data.dataset", "data.root", "data.validation_split", "data.skip_missing")
"""Settings that say what is scored, not how."""


@app.command(epilog=TRAIN_HELP + SETTINGS)
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
    full_recipe = read_recipe(recipe_option if recipe is None else recipe, overrides)
    if recipe is None and recipe_option is None:
        raise ConfigError(
            "train: no recipe is named; give a YAML file or a name that `epalm recipes` lists, such as toy_image"
        )
    _check_results([("--json", json_file)], {"--output": full_recipe.output, "data.train": full_recipe.data.train})
    from epalm.runtime.processes import is_main_process
    from epalm.training import run_recipe

    with show_progress() if is_main_process() else nullcontext() as on_progress:
        result = run_recipe(full_recipe, on_progress, resume=resume, on_warning=warn, java=not no_java)
    if is_main_process():
        _write_json(json_file, result.as_dict())
        typer.echo(result.as_text())


@app.command(epilog=EVALUATE_HELP + ANSWER_SETTINGS)
def evaluate(
    context: typer.Context,
    adapter: Adapter,
    data: Annotated[
        Path | None,
        typer.Option(metavar="ROWS.jsonl", help="JSON Lines manifest to score on, unless a data set is named."),
    ] = None,
    json_file: JsonFile = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every prediction, a line each; rows may then lack their answers."),
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(metavar="coco|vqa|gqa|vizwiz|vatex", help="Write them as that evaluation server takes them."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write predictions, scores, settings, versions and fingerprints into one directory."
        ),
    ] = None,
    no_java: NoJava = False,
) -> None:
    """Score an adapter on rows held out."""
    _check_results([("--json", json_file), ("--predictions", predictions)], {"--data": data, "--output": output})
    from epalm.evaluation.record import check_directory, write_evaluation

    if output is not None:
        check_directory(output)
    if results is not None:
        from epalm.metrics.files import format_results

        format_results(results, [])  # a format that there is not is refused before the work, not after
        if predictions is None:
            raise ConfigError("--results: says how predictions are written; name a file for them with --predictions")
    from epalm.evaluation import Answerer, score_rows
    from epalm.runtime.processes import is_main_process
    from epalm.training.rows import rows_to_score

    data_settings, settings = _data_settings(data, context.obj)
    rows = rows_to_score(data_settings, require_answers=predictions is None and output is None)
    answerer = Answerer.load(adapter, settings)
    with show_progress() if is_main_process() else nullcontext() as on_progress:
        evaluation = score_rows(answerer, rows.rows, on_progress, rows.where, java=not no_java)
    if not is_main_process():
        return
    if predictions is not None:
        evaluation.write_predictions(predictions, results)
    if output is not None:
        write_evaluation(output, evaluation, answerer, adapter, rows.where, rows.files)
    _write_json(json_file, {"adapter": adapter, "data": rows.where, **evaluation.as_dict()})
    typer.echo("\n".join([*rows.notes, evaluation.as_text()]))


@app.command(epilog=CAPTION_HELP + KINDS_HELP + ANSWER_SETTINGS)
def caption(
    context: typer.Context,
    adapter: Adapter,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files to caption.")],
    others: Others = None,
    sounds: Sounds = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in files."""
    from epalm.runtime.processes import is_main_process

    own_sounds = _sounds_of(files, sounds)
    answerer = _load_answerer(adapter, others, context.obj)
    texts = answerer.caption([answerer.media(file, sound) for file, sound in zip(files, own_sounds, strict=True)])
    if not is_main_process():
        return
    captions = [
        _answer_facts(file, sound, caption=text) for file, sound, text in zip(files, own_sounds, texts, strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(captions))
        return
    for answer in captions:
        typer.echo(f"{answer['file']}: {answer['caption']}" if len(files) > 1 else answer["caption"])


@app.command(epilog=ASK_HELP + KINDS_HELP + ANSWER_SETTINGS)
def ask(
    context: typer.Context,
    adapter: Adapter,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that the question is about.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    others: Others = None,
    sounds: Sounds = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question about a file."""
    from epalm.runtime.processes import is_main_process

    (sound,) = _sounds_of([file], sounds)
    answerer = _load_answerer(adapter, others, context.obj)
    text = answerer.ask(answerer.media(file, sound), question)
    if is_main_process():
        typer.echo(json.dumps(_answer_facts(file, sound, question=question, answer=text)) if as_json else text)


@app.command(epilog=INFO_HELP + SETTINGS)
def info(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="ADAPTER|RECIPE", help="A trained adapter, or a recipe.")],
    as_json: AsJson = False,
) -> None:
    """Tell what an adapter holds, or what a recipe trains."""
    from epalm.training import describe_source

    description = describe_source(source, context.obj)
    typer.echo(json.dumps(description.as_dict()) if as_json else description.as_text())


@app.command(epilog=RECIPES_HELP)
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


@app.command(epilog=CONVERT_HELP)
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


app.command(epilog=SCORE_HELP)(score)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no terminal is too poor for a caption
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    quieten_libraries()
    try:
        overrides, rest = split_settings(arguments)
        interrupted = app(rest or ["--help"], obj=overrides, prog_name="epalm", standalone_mode=False)
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
    except EpalmError as error:
        return refuse(str(error))
    except _UsageError as error:
        return refuse(usage(error))
    except TrainingStopped as stopped:
        from epalm.runtime.processes import is_main_process

        return refuse(str(stopped), stopped.exit_code) if is_main_process() else stopped.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return refuse("interrupted", _INTERRUPTED)
    except SystemExit:  # typer's answer to a closed pipe: whoever read has seen enough
        return 0
    except Exception as error:
        if (trouble := users_trouble(error)) is not None:
            return refuse(trouble)
        traceback.print_exc()
        return refuse("this is a bug; please report it with the lines above", 1)
    return refuse("interrupted", _INTERRUPTED) if interrupted == _INTERRUPTED else 0


def _without_store(overrides: dict[str, Any]) -> dict[str, Any]:
    """The same settings, with no features kept."""
    if "data.store" in overrides:
        raise ConfigError("--no-store: data.store is given as well; leave one of them out")
    return {**overrides, "data.store": False}


def _data_settings(manifest: Path | None, overrides: dict[str, Any]) -> tuple[DataSettings, dict[str, Any]]:
    """Where the rows to score are, and the settings that are left for the adapter."""
    from epalm.recipe import build_recipe

    row_settings = {name: value for name, value in overrides.items() if name in _ROWS}
    if manifest is not None and row_settings:
        raise ConfigError(f"--{next(iter(row_settings))}: --data says which rows to score; leave one of them out")
    feature_settings = {name: value for name, value in overrides.items() if name.startswith("data.features")}
    data = build_recipe({}, {**row_settings, **feature_settings, "data.validation": manifest}).data
    return data, {name: value for name, value in overrides.items() if name not in row_settings}


def _load_answerer(adapter: str, others: list[str] | None, overrides: dict[str, Any]) -> Asked:
    """What is to answer: one adapter, or several on one language model."""
    from epalm.evaluation import AdapterSet, Answerer

    return AdapterSet.load([adapter, *others], overrides) if others else Answerer.load(adapter, overrides)


def _sounds_of(files: list[Path], sounds: list[Path] | None) -> Sequence[Path | None]:
    """The sound that goes with each file, if any does."""
    if sounds and len(sounds) != len(files):
        raise ConfigError(f"--audio: given {len(sounds)} times for {len(files)} files; give one for each")
    return sounds or [None] * len(files)


def _answer_facts(file: Path, sound: Path | None, **texts: str) -> dict[str, str]:
    """What was said of an input, for JSON."""
    return {"file": str(file), **({} if sound is None else {"audio": str(sound)}), **texts}


def _check_results(results: list[tuple[str, Path | None]], reserved: dict[str, Path | None]) -> None:
    """See that results can be written where nothing else is, before hours of work are spent on them."""
    places = {name: path.absolute() for name, path in reserved.items() if path is not None}
    for name, path in results:
        if path is None:
            continue
        for other, place in places.items():
            if place == path.absolute() or (other == "--output" and place in path.absolute().parents):
                raise ConfigError(f"{name}: {path} is where {other} is; name another file")
        check_writable(path, name)
        places[name] = path.absolute()


def _write_json(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        write_whole(path, [json.dumps(result, indent=2), "\n"], "--json")
