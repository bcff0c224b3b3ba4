"""Which rows a model can take: what they bring is perceived, and their text fits. Asked before any work is done."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from epalm.data.rows import Row
from epalm.errors import DataError, UnsupportedModelError
from epalm.models import PerceptualLM
from epalm.tasks import Tasks

_MOST_TOKENS_A_BYTE = 4  # far above what any tokenizer needs: most rows are seen to be short enough without it


def require_perceived(rows: Sequence[Row], modalities: Collection[str], where: str = "") -> None:
    """See that every row brings something of `modalities`; where there are none, nothing is asked of it.

    Args:
        rows: to be trained on or answered.
        modalities: what the model perceives.
        where: the manifest, for messages.

    Raises:
        DataError: the first row that does not, and how many more there are.
    """
    if modalities:
        unperceived = [row for row in rows if not row.media.keys() & modalities]
        _refuse(
            unperceived,
            where,
            lambda row: (
                f"brings {', '.join(row.media)}, but the model perceives {', '.join(sorted(modalities))}; "
                f"name an encoder for it (model.encoders), or leave the row out"
            ),
        )


def require_room(
    rows: Sequence[Row], tasks: Tasks, model: PerceptualLM, *, with_targets: bool, where: str = ""
) -> None:
    """See that the language model has positions for the text of every row.

    Args:
        rows: to be trained on or answered.
        tasks: how rows become text.
        model: whose language model it is.
        with_targets: count the longest answer or caption as well, as training does.
        where: the manifest, for messages.

    Raises:
        DataError: the first row that is too long, and how many more there are.
    """
    limit = model.text_limit
    if limit is None:
        return

    def length(row: Row) -> int:
        if not with_targets:
            return len(tasks.prompt_ids(row))
        single_targets = [
            dataclasses.replace(row, targets=(target,), weights=None) for target in dict.fromkeys(row.targets)
        ]
        return max(sum(map(len, tasks.encode(single, random.Random(0)))) for single in single_targets)

    suspects = [row for row in rows if _MOST_TOKENS_A_BYTE * _bytes(row, tasks) > limit]
    what = "its text with the answer" if with_targets else "its text"
    _refuse(
        [row for row in suspects if length(row) > limit],
        where,
        lambda row: (
            f"{what} is {length(row)} tokens long, but the language model has positions for {limit}"
            f"{' beside what is perceived' if limit < (model.anatomy.position_limit or 0) else ''}; shorten it"
        ),
    )


def require_tokenizer(model: PerceptualLM) -> None:
    """See that the tokenizer writes anything: transformers makes an empty one where the tokenizer's files are missing.

    Raises:
        UnsupportedModelError: it does not, or there is none.
    """
    if model.tokenizer is None or not model.tokenizer("a", add_special_tokens=False)["input_ids"]:
        remedy = "put tokenizer.json and its like there" if model.source else "give it as tokenizer="
        raise UnsupportedModelError(
            f"language model {_name_of_language_model(model)}: has no tokenizer beside it; {remedy}"
        )


def require_known_tokens(ids: Tensor, model: PerceptualLM) -> None:
    """See that the language model has an embedding for every token of a batch, (B, T).

    Raises:
        UnsupportedModelError: the tokenizer is another model's.
    """
    embeddings, largest = count_embeddings(model), int(ids.max())
    if largest >= embeddings:
        raise UnsupportedModelError(
            f"language model {_name_of_language_model(model)}: its tokenizer writes token {largest}, but it has "
            f"embeddings for {embeddings} tokens only; put the tokenizer there that it was trained with"
        )


def count_embeddings(model: PerceptualLM) -> int:
    """How many tokens the language model has embeddings for."""
    return int(model.language_model.get_input_embeddings().num_embeddings)


def name_of(row: Row, where: str = "") -> str:
    """What a message calls a row: its place in the manifest, else its files."""
    if not row.number:
        return " and ".join(map(str, row.media.values())) or "the row"
    return f"{where}, row {row.number}" if where else f"row {row.number}"


def _name_of_language_model(model: PerceptualLM) -> str:
    """Where it came from; a live one may have come from nowhere."""
    return model.source or type(model.language_model).__name__


def _refuse(rows: Sequence[Row], where: str, reason: Callable[[Row], str]) -> None:
    if rows:
        others = len({row.number or id(row) for row in rows}) - 1  # a row with several captions counts once
        more = f" (and {others} more like it)" if others else ""
        raise DataError(f"{name_of(rows[0], where)}: {reason(rows[0])}{more}")


def _bytes(row: Row, tasks: Tasks) -> int:
    """No fewer bytes than there are in the row's text and any one of its targets."""
    texts = (tasks.of(row).prompt(row.question), *row.targets)
    return sum(len(text.encode()) + 1 for text in texts)
