"""What a reader of scores must know of the texts behind them, where a number does not mean what it seems to.

Each note is one line. Scores stay as they are: the official evaluators give the same, and say nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from epalm.metrics.accuracy import FEWEST_ANSWERS, PEOPLE
from epalm.metrics.answer_normalisation import clean_answer, normalise_answer
from epalm.metrics.printed_lists import is_printed_list
from epalm.metrics.registry import Reference, get_metric
from epalm.metrics.scripts import is_other_than_latin, unspaced_rows

_TELLING = 0.01
"""Share of rows from which on something is told that a few rows may well have."""
_MANY = 10
"""Rows from which on it is told that all are alike."""
_LONGEST = 60
"""Characters of a text that are shown."""
_ENGLISH = ("meteor", "spice", "spider")
"""Metrics that know the words of English alone."""


@dataclass(frozen=True)
class _Scored:
    """What was compared."""

    names: Sequence[str]
    """Of metrics."""
    predictions: Sequence[str]
    references: Sequence[Reference]
    ids: Sequence[str]
    """What rows are called in notes."""

    def reads(self, kind: str) -> bool:
        """Whether a metric takes `text`, or `tokens`."""
        return any(get_metric(name).reads == kind for name in self.names)

    def chosen(self, *names: str) -> str:
        """Those of `names` that are among the metrics, for messages; empty where none is."""
        return ", ".join(name for name in names if name in self.names)

    @cached_property
    def are_alike(self) -> bool:
        """Whether all rows have the same references."""
        first, *others = self.references
        return bool(others) and all(_as_set(reference) == _as_set(first) for reference in others)

    def share(self, rows: Sequence[int]) -> str:
        """How many of the rows, for messages."""
        return f"{len(rows)} of {len(self.ids)} rows"

    def name(self, row: int) -> str:
        """What a row is called, on one line."""
        return " ".join(self.ids[row].split())

    def where(self, test: Callable[[str, Reference], object]) -> list[int]:
        """The rows of which `test`, given prediction and references, holds."""
        return [row for row, pair in enumerate(zip(self.predictions, self.references, strict=True)) if test(*pair)]

    def is_telling(self, rows: Sequence[int]) -> bool:
        """Whether these are enough rows to change what a reader concludes."""
        return len(rows) >= max(1, _TELLING * len(self.ids))


def notes_on(
    names: Sequence[str], predictions: Sequence[str], references: Sequence[Reference], ids: Sequence[str] | None = None
) -> tuple[str, ...]:
    """What to tell beside the scores of these rows.

    Args:
        names: of the metrics that are computed.
        predictions: N texts.
        references: what each is held against.
        ids: what each row is called; unset: its place, counting from 1.
    """
    scored = _Scored(names, predictions, references, ids or [str(row) for row in range(1, len(predictions) + 1)])
    return tuple(note for find in _NOTES for note in find(scored))


def _rows_alike(scored: _Scored) -> Iterator[str]:
    cider = scored.chosen("cider", "spider")
    if len(scored.ids) == 1:
        if cider:
            yield (
                f"{cider}: CIDEr of one row is 0 by definition, for it weighs words by how few rows have them; "
                "score the row among others"
            )
        yield "there is one row, so that intervals are the score itself and tell nothing"
    elif scored.are_alike and cider:
        yield (
            f"{cider}: CIDEr is 0 where all {len(scored.ids)} rows have the same references, for it weighs words by "
            "how few rows have them"
        )
    elif scored.are_alike and len(scored.ids) >= _MANY:
        yield f"all {len(scored.ids)} rows have the same references, so that one answer fits them all"


def _predictions_alike(scored: _Scored) -> Iterator[str]:
    empty = scored.where(lambda prediction, _: not prediction.strip())
    if scored.is_telling(empty):
        yield f"{scored.share(empty)} have an empty prediction, first row {scored.name(empty[0])}"
    same = len(set(scored.predictions)) == 1 and len(scored.ids) >= _MANY
    if same and not empty and not scored.are_alike:
        yield f"all {len(scored.ids)} predictions are the same: {_shown(scored.predictions[0])}"


def _printed_lists(scored: _Scored) -> Iterator[str]:
    referenced = scored.where(lambda _, references: any(map(is_printed_list, references)))
    if referenced:
        text = next(filter(is_printed_list, scored.references[referenced[0]]))
        yield (
            f"{scored.share(referenced)} have a printed list as one reference, first row {scored.name(referenced[0])}: "
            f"{_shown(text)}; it is compared as it stands: write a list of texts instead"
        )
    predicted = scored.where(lambda prediction, _: is_printed_list(prediction))
    if scored.is_telling(predicted):
        text = scored.predictions[predicted[0]]
        yield (
            f"{scored.share(predicted)} have a printed list as their prediction, first row "
            f"{scored.name(predicted[0])}: {_shown(text)}; it is compared as it stands: write its text alone"
        )


def _languages(scored: _Scored) -> Iterator[str]:
    if not scored.reads("tokens"):
        return
    for script, rows in unspaced_rows(scored.references).items():
        if scored.is_telling(rows):
            yield (
                f"references of {scored.share(rows)} are in {script}, without spaces between words; captions are cut "
                "at spaces, so that a whole sentence counts as one word and their scores mean little: put spaces "
                "between words, in predictions and references alike"
            )
    english = scored.chosen(*_ENGLISH)
    foreign = scored.where(lambda _, references: is_other_than_latin(references)) if english else []
    if foreign and scored.is_telling(foreign):
        yield f"{english}: made for English; {scored.share(foreign)} have references in another script"


def _people(scored: _Scored) -> Iterator[str]:
    if "vqa_accuracy" in scored.names:
        few = scored.where(lambda _, answers: not isinstance(answers, Mapping) and len(answers) < PEOPLE)
        if scored.is_telling(few):
            yield (
                f"vqa_accuracy: {scored.share(few)} have fewer than {PEOPLE} people's answers; three that agree are a "
                "full score all the same, so that it cannot be compared with VQAv2's"
            )
        spelt = scored.where(_differs_in_spelling)
        if scored.is_telling(spelt):
            row = spelt[0]
            example = f"{_shown(scored.predictions[row])} for {_shown(next(iter(scored.references[row])))}"
            yield (
                f"vqa_accuracy: {scored.share(spelt)} are wrong by case, articles or punctuation alone, first row "
                f"{scored.name(row)}: {example}; where all people wrote the same, the official evaluator compares as "
                "written"
            )
    elif "exact_match" in scored.names:
        many = scored.where(lambda _, answers: isinstance(answers, Mapping) or len(answers) >= FEWEST_ANSWERS)
        few = scored.where(lambda _, answers: not isinstance(answers, Mapping) and len(answers) < FEWEST_ANSWERS)
        if few and len(many) > len(few):
            yield (
                f"exact_match: any one of a row's answers is right; vqa_accuracy takes {FEWEST_ANSWERS} or more in "
                f"every row, and {scored.share(few)} have fewer, first row {scored.name(few[0])}"
            )


def _signs(scored: _Scored) -> Iterator[str]:
    if scored.reads("text"):
        unseen = scored.where(lambda prediction, references: any(map(_has_unseen, (prediction, *references))))
        if scored.is_telling(unseen):
            row = unseen[0]
            text = next(filter(_has_unseen, (scored.predictions[row], *scored.references[row])))
            yield (
                f"{scored.share(unseen)} hold signs that cannot be seen, which are compared like any others, first row "
                f"{scored.name(row)}: {text[:_LONGEST]!a}"
            )
    decomposed = [
        scored.where(lambda prediction, _: not unicodedata.is_normalized("NFC", prediction)),
        scored.where(lambda _, references: not all(unicodedata.is_normalized("NFC", text) for text in references)),
    ]
    for rows, others, what in zip(decomposed, decomposed[::-1], ("predictions", "references"), strict=True):
        if scored.is_telling(rows) and not others:
            yield (
                f"{what} of {scored.share(rows)} have accents that are signs of their own (Unicode NFD), and the "
                "others have none, so that such words never match: normalise both alike"
            )


_NOTES = (_rows_alike, _printed_lists, _languages, _people, _predictions_alike, _signs)


def _as_set(reference: Reference) -> object:
    return dict(reference) if isinstance(reference, Mapping) else frozenset(reference)


def _differs_in_spelling(prediction: str, answers: Reference) -> bool:
    """Whether all people gave one answer, which the prediction is but for what the normalisation makes alike."""
    if isinstance(answers, Mapping):
        return False
    cleaned = {clean_answer(answer) for answer in answers}
    if len(cleaned) != 1 or clean_answer(prediction) in cleaned:
        return False
    return normalise_answer(prediction) == normalise_answer(next(iter(cleaned)))


def _has_unseen(text: str) -> bool:
    return not text.isprintable() and any(not sign.isprintable() and not sign.isspace() for sign in text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")
