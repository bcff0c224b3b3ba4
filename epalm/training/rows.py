"""The rows that a recipe trains on and is scored on: manifests, or splits of a published data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epalm.data.check import describe_split, usable_split
from epalm.data.manifest import read_manifest
from epalm.data.published import get_dataset
from epalm.data.rows import Row
from epalm.data.target_notes import notes_on_targets
from epalm.errors import ConfigError
from epalm.recipe import DataSettings
from epalm.tasks.admission import require_perceived


@dataclass(frozen=True)
class RowSource:
    """Rows, and where they are from."""

    rows: tuple[Row, ...] = ()
    where: str = ""
    """For messages."""
    notes: tuple[str, ...] = ()
    """What was found of each published split, and what was not; of a manifest, what a user should know of it."""
    files: tuple[Path, ...] = ()
    """The manifest, or the annotations."""


def require_rows(data: DataSettings) -> None:
    """See that there is something to train on, before anything is read.

    Raises:
        ConfigError: there is not, or the data set, a split, or where it lies is unknown.
    """
    if data.train is None and (data.dataset is None or data.train_split is None):
        ways = "--data.train ROWS.jsonl" if data.dataset is None else "--data.train_split SPLIT"
        raise ConfigError(f"data.train: no rows to train on; give {ways}")
    splits = [
        split
        for manifest, split in ((data.train, data.train_split), (data.validation, data.validation_split))
        if manifest is None and split is not None
    ]
    if data.dataset is None:
        return
    if data.train_split is None and data.validation_split is None:
        title = get_dataset(data.dataset).title
        raise ConfigError(f"data.dataset: no split of {title} is used; give --data.train_split, or leave it out")
    if splits:  # else manifests take the place of all that are named
        _require_published(data, data.dataset, splits)


def rows_to_score(data: DataSettings, *, require_answers: bool = True) -> RowSource:
    """The rows that an evaluation is asked for; arguments and errors as in `training_rows`.

    Raises:
        ConfigError: there are none, or the data set, its split, or where it lies is unknown.
    """
    if data.validation is None and (data.dataset is None or data.validation_split is None):
        ways = "--data ROWS.jsonl, or --data.dataset NAME, --data.root DIR and " if data.dataset is None else ""
        raise ConfigError(f"data: no rows to score; give {ways}--data.validation_split SPLIT")
    if data.validation is None and data.dataset is not None and data.validation_split is not None:
        _require_published(data, data.dataset, [data.validation_split])
    return validation_rows(data, (), require_answers=require_answers)


def _require_published(data: DataSettings, name: str, splits: Sequence[str]) -> None:
    """See that the data set and its splits are known, and where it lies."""
    dataset = get_dataset(name)
    if data.root is None:
        raise ConfigError(
            f"data.root: where {dataset.title} lies is not said; give --data.root DIR (annotations: {dataset.home}, "
            f"{dataset.modality}: {dataset.media_home})"
        )
    for split in "+".join(splits).split("+"):
        dataset.require_split(split)


def training_rows(data: DataSettings, perceives: Collection[str], *, require_answers: bool = True) -> RowSource:
    """The rows to train on; `require_rows` comes first.

    Args:
        data: says where they are.
        perceives: modalities, one of which every row must bring; none: nothing is asked of it.
        require_answers: refuse a manifest's rows that have none.

    Raises:
        DataError: the manifest or the data set cannot be used.
    """
    # A file that is not there is one more that cannot be read.
    check_media = data.on_bad_media == "error"
    found = _rows(data, data.train, data.train_split, perceives, require_answers, check_media=check_media)
    return replace(found, notes=(*found.notes, *(f"{found.where}: {note}" for note in notes_on_targets(found.rows))))


def validation_rows(data: DataSettings, perceives: Collection[str], *, require_answers: bool = True) -> RowSource:
    """The rows to score, if there are any; arguments and errors as in `training_rows`."""
    return _rows(data, data.validation, data.validation_split, perceives, require_answers)


def _rows(
    data: DataSettings,
    manifest: Path | None,
    split: str | None,
    perceives: Collection[str],
    require_answers: bool,
    *,
    check_media: bool = True,
) -> RowSource:
    if manifest is not None:
        notes: list[str] = []
        rows = read_manifest(
            manifest,
            require_answers=require_answers,
            check_media=check_media and not data.features,  # files whose features are ready need not be there
            find_media=not data.features,
            on_note=notes.append,
        )
        source = RowSource(tuple(rows), str(manifest), tuple(notes), (manifest,))
    elif data.dataset is not None and data.root is not None and split is not None:
        source = _published(data.dataset, data.root, split, skip_missing=data.skip_missing)
    else:
        return RowSource()
    if perceives:
        require_perceived(source.rows, perceives, source.where)
    return source


def _published(name: str, root: Path, splits: str, *, skip_missing: bool) -> RowSource:
    """Splits of a published data set, such as `train` or `train+val`, one after the other."""
    rows: list[Row] = []
    notes: list[str] = []
    files: dict[Path, None] = {}
    for split in splits.split("+"):
        split_rows = usable_split(
            name, root, split, skip_missing=skip_missing, remedy="leave their rows out with --data.skip_missing true"
        )
        rows += split_rows.rows
        files |= dict.fromkeys(split_rows.files)
        notes.append(f"{name} {split}: {describe_split(name, split_rows)}")
    return RowSource(tuple(rows), f"{root}: {name} {splits}", tuple(notes), tuple(files))


def require_learned(perceives: Collection[str], source: RowSource) -> None:
    """See that nothing is going to be perceived of which nothing was learned.

    Raises:
        ConfigError: no row brings one of the modalities that are perceived.
    """
    modalities = {name for row in source.rows for name in row.media}
    unlearned = [name for name in perceives if name not in modalities]
    if unlearned and source.rows:
        raise ConfigError(
            f"model.encoders.{unlearned[0]}: no row of {source.where} brings {unlearned[0]}, so nothing of it would be "
            "learned; leave the encoder out, or give rows that bring it"
        )
