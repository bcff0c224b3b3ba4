"""Training files that are set aside to choose the best adapter by: what is scored in the end has no say in it."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace

from epalm.data.rows import Row
from epalm.errors import ConfigError
from epalm.evaluation.perception_gain import LOSS
from epalm.recipe import Recipe
from epalm.training.rows import RowSource


def set_aside(source: RowSource, recipe: Recipe) -> tuple[RowSource, RowSource]:
    """Part training rows by their files, as `data.holdout` says.

    No file is on both sides, nor rows that are linked by files in common. Of rows that bring the same modalities and
    have the same task about the same share is held out. What is drawn depends on the rows, their order and
    `training.seed` alone.

    Args:
        source: all rows.
        recipe: of the modalities that it perceives the files count; of a row that brings none of them all files do,
            and of one without files its question.

    Returns:
        The rows to learn from and those held out, each in their order; of the latter none where there is no holdout.
        Else there is at least one of each, and the former bring every modality that there is.

    Raises:
        ConfigError: that cannot be had.
    """
    share = recipe.data.holdout
    if share is None or not source.rows:
        return source, RowSource()
    inputs = [_inputs(row, recipe.perceives) for row in source.rows]
    groups = _joined(inputs)
    random.Random(f"holdout {recipe.training.seed}").shuffle(groups)
    kinds = [_kind(source.rows, group) for group in groups]
    order = sorted(range(len(groups)), key=lambda place: kinds[place])  # stable: shuffled within each kind
    sizes = [len(set().union(*(inputs[number] for number in group))) for group in groups]
    left = Counter(modalities for modalities, _ in kinds)
    held: list[int] = []
    due = 0.5  # files that the walk owes to the other side; whole ones are paid, and the end is rounded
    for place in order:
        due += share * sizes[place]
        if due >= sizes[place] and left[kinds[place][0]] > 1:
            held.append(place)
            due -= sizes[place]
            left[kinds[place][0]] -= 1
    if not held:
        spare = [place for place in order if left[kinds[place][0]] > 1]
        if not spare:
            raise ConfigError(
                f"data.holdout: of the files of {source.where} none can be set aside without leaving nothing of its "
                "kind to learn from; give more files, or leave data.holdout out"
            )
        held = [min(spare, key=sizes.__getitem__)]
    numbers = {number for place in held for number in groups[place]}
    return (
        replace(source, rows=tuple(row for number, row in enumerate(source.rows) if number not in numbers)),
        RowSource(tuple(source.rows[number] for number in sorted(numbers)), f"{source.where} (held out)"),
    )


def with_metric(recipe: Recipe) -> Recipe:
    """The recipe with `training.metric` written out: without being told, files held out choose by the loss."""
    if recipe.data.holdout is None or recipe.training.metric is not None:
        return recipe
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"metric": LOSS})})


def _inputs(row: Row, perceives: Collection[str]) -> list[Hashable]:
    """What must not be on both sides; never empty."""
    files: list[Hashable] = [file for modality, file in row.media.items() if modality in perceives]
    return files or list(row.media.values()) or [row.question]


def _joined(inputs: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Numbers of rows, those together that have an input in common, be it by way of others."""
    above: dict[Hashable, Hashable] = {}

    def top(key: Hashable) -> Hashable:
        while above.setdefault(key, key) != key:
            above[key] = key = above[above[key]]  # paths are halved as they are walked
        return key

    for first, *others in inputs:
        for other in others:
            above[top(other)] = top(first)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, keys in enumerate(inputs):
        groups[top(keys[0])].append(number)
    return list(groups.values())


def _kind(rows: Sequence[Row], group: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modalities that rows of a group bring, and their tasks."""
    modalities = {modality for number in group for modality in rows[number].media}
    return tuple(sorted(modalities)), tuple(sorted({rows[number].task for number in group}))
