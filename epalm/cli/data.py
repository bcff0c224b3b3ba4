"""Commands that need no model: `epalm data list | check | rows | import`, and `epalm score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from epalm.cli.options import JsonFile
from epalm.cli.results import check_results, write_json
from epalm.errors import DataError
from epalm.runtime.outputs import check_writable

data_app = typer.Typer(
    help="Published data sets: what is there, what is missing, and rows to train on.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set; `epalm data list` names them.")]
Place = Annotated[Path, typer.Argument(metavar="DIR", help="Where it was put; its files may lie anywhere below.")]
_CHECK_HELP = """\b
epalm data check coco_captions /data/coco"""
_ROWS_HELP = """\b
epalm data rows msrvtt_qa /data/msrvtt --split train --output train.jsonl --skip-missing"""
_IMPORT_HELP = """\b
epalm data import shards/ --output train.jsonl
epalm data import saved-dataset/ --split train --output train.jsonl"""
SCORE_HELP = """\b
epalm score predictions.json captions_val2014.json --only-predicted --metric cider --metric bleu_4

Both files may be in any layout that evaluation servers and data sets use: COCO, VQA, GQA, VizWiz, VATEX, JSON Lines."""


@data_app.command("list")
def list_datasets() -> None:
    """Name every data set that can be read, with its splits."""
    from epalm.data.published import dataset_names, get_dataset

    for name in dataset_names():
        dataset = get_dataset(name)
        typer.echo(f"{name} ({dataset.title}, {dataset.modality}): {', '.join(dataset.splits)}")


@data_app.command(epilog=_CHECK_HELP)
def check(
    name: Name,
    folder: Place,
    split: Annotated[list[str] | None, typer.Option(metavar="SPLIT", help="A split to look for; without, all.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Say what of a data set is there, what is missing and where it is to be had."""
    from epalm.data.check import check_dataset

    check_results([("--json", json_file)], {})
    result = check_dataset(name, folder, split or ())
    write_json(json_file, result.as_dict())
    typer.echo(result.as_text())
    if not result.usable and not split:
        raise DataError(f"{folder}: {name}: no split can be used")
    unusable = result.unusable(split) if split else list(result.unreadable)
    if unusable:
        names = ", ".join(f"'{name}'" for name in unusable)
        raise DataError(f"{folder}: {name}: split{'s' if len(unusable) > 1 else ''} {names} cannot be used")


@data_app.command(epilog=_ROWS_HELP)
def rows(
    name: Name,
    folder: Place,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Which split.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="JSON Lines manifest to write.")],
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave rows out whose media are not there.")
    ] = False,
) -> None:
    """Write a split as a manifest, to train on or to evaluate."""
    from epalm.data.check import describe_split, write_rows

    check_writable(output, "--output")
    result = write_rows(name, folder, split, output, skip_missing=skip_missing)
    typer.echo(f"{output}: {describe_split(name, result)}")


@data_app.command("import", epilog=_IMPORT_HELP)
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A shard, an Arrow or Parquet file, or a directory of them, or one with metadata.jsonl or .csv.",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="JSON Lines manifest to write.")],
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Which, of Arrow or Parquet files with several.")
    ] = None,
) -> None:
    """Make a manifest of WebDataset shards, or of what Hugging Face `datasets` saves and reads."""
    from epalm.data.importing import import_data

    check_writable(output, "--output")
    typer.echo(f"{output}: {import_data(source, output, split).as_text()}")


def score(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="What was predicted.")],
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help="What is right.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A score; without, all that suit the references and can be computed here."),
    ] = None,
    only_predicted: Annotated[
        bool, typer.Option("--only-predicted", help="Score the rows that are predicted, though there are more.")
    ] = False,
    tokenizer: Annotated[
        str, typer.Option(metavar="auto|java|python", help="What captions are cut with; auto: Java where it is there.")
    ] = "auto",
    json_file: JsonFile = None,
) -> None:
    """Score anyone's predictions, with bootstrap 95 % intervals."""
    from epalm.metrics.scoring_files import score_files

    check_results([("--json", json_file)], {"PREDICTIONS": predictions, "REFERENCES": references})
    result = score_files(
        predictions,
        references,
        metric or (),
        only_predicted=only_predicted,
        tokenizer=tokenizer,
    )
    write_json(json_file, {"predictions": str(predictions), "references": str(references), **result.as_dict()})
    typer.echo(result.as_text())
