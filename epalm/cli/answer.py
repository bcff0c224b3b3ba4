"""Commands that ask an adapter: `epalm evaluate | caption | ask`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epalm.cli.errors import warn
from epalm.cli.options import Adapter, AsJson, JsonFile, NoJava, Others, Sounds
from epalm.cli.results import check_results, write_json
from epalm.errors import ConfigError
from epalm.runtime.progress import show_progress

if TYPE_CHECKING:
    from epalm.evaluation.asking import BaseAnswerer
    from epalm.recipe import DataSettings

_ROWS = ("data.dataset", "data.root", "data.validation_split", "data.skip_missing")
"""Settings that say what is scored, not how."""


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
    check_results([("--json", json_file), ("--predictions", predictions)], {"--data": data, "--output": output})
    from epalm.evaluation.record import check_directory, write_evaluation

    if output is not None:
        check_directory(output)
    if results is not None:
        from epalm.metrics.result_files import format_results

        format_results(results, [])  # a format that there is not is refused before the work, not after
        if predictions is None:
            raise ConfigError("--results: says how predictions are written; name a file for them with --predictions")
    from epalm.evaluation import Answerer, score_rows
    from epalm.runtime.processes import is_main_process
    from epalm.training.rows import rows_to_score

    data_settings, settings = _data_settings(data, context.obj)
    rows = rows_to_score(data_settings, require_answers=predictions is None and output is None)
    answerer = Answerer.load(adapter, settings, on_warning=warn)
    with show_progress() if is_main_process() else nullcontext() as on_progress:
        evaluation = score_rows(answerer, rows.rows, on_progress, rows.where, java=not no_java)
    if not is_main_process():
        return
    if predictions is not None:
        evaluation.write_predictions(predictions, results)
    if output is not None:
        write_evaluation(output, evaluation, answerer, adapter, rows.where, rows.files)
    write_json(json_file, {"adapter": adapter, "data": rows.where, **evaluation.as_dict()})
    typer.echo("\n".join([*rows.notes, evaluation.as_text()]))


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


def _data_settings(manifest: Path | None, overrides: dict[str, Any]) -> tuple[DataSettings, dict[str, Any]]:
    """Where the rows to score are, and the settings that are left for the adapter."""
    from epalm.recipe import build_recipe

    row_settings = {name: value for name, value in overrides.items() if name in _ROWS}
    if manifest is not None and row_settings:
        raise ConfigError(f"--{next(iter(row_settings))}: --data says which rows to score; leave one of them out")
    feature_settings = {name: value for name, value in overrides.items() if name.startswith("data.features")}
    data = build_recipe({}, {**row_settings, **feature_settings, "data.validation": manifest}).data
    return data, {name: value for name, value in overrides.items() if name not in row_settings}


def _load_answerer(adapter: str, others: list[str] | None, overrides: dict[str, Any]) -> BaseAnswerer:
    """What is to answer: one adapter, or several on one language model."""
    from epalm.evaluation import AdapterSet, Answerer

    if others:
        return AdapterSet.load([adapter, *others], overrides, on_warning=warn)
    return Answerer.load(adapter, overrides, on_warning=warn)


def _sounds_of(files: list[Path], sounds: list[Path] | None) -> Sequence[Path | None]:
    """The sound that goes with each file, if any does."""
    if sounds and len(sounds) != len(files):
        raise ConfigError(f"--audio: given {len(sounds)} times for {len(files)} files; give one for each")
    return sounds or [None] * len(files)


def _answer_facts(file: Path, sound: Path | None, **texts: str) -> dict[str, str]:
    """What was said of an input, for JSON."""
    return {"file": str(file), **({} if sound is None else {"audio": str(sound)}), **texts}
