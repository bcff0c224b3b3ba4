"""Right or wrong answers: the official VQA accuracy, and normalised exact match (GQA, video and audio questions).

The references of a row are a sequence of human answers, or a mapping {answer: soft score} where a data set comes with
scores already (the Karpathy rows of VQAv2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from epalm.errors import DataError
from epalm.metrics.answer_normalisation import clean_answer, normalise_answer
from epalm.metrics.registry import FloatArray, Reference, metric

PEOPLE = 10
"""Human answers to each question of VQA, for which its accuracy was made."""
FEWEST_ANSWERS = 4
"""Human answers that `vqa_accuracy` needs: with fewer, not even the answer that all gave could score 1."""


def vqa_accuracy(prediction: str, answers: Reference) -> float:
    """Official VQA accuracy of one prediction, in [0, 1].

    For each human answer: min(1, matches among the others / 3); the mean of these. Prediction and answers are
    normalised only where the humans disagree: where they all wrote the same, the published evaluator compares as
    written. With a mapping of soft scores, the score of the answer that matches after normalisation, else 0.

    Raises:
        ValueError: fewer than `FEWEST_ANSWERS` human answers, for which the score means nothing.
    """
    if isinstance(answers, Mapping):
        normalised = normalise_answer(prediction)
        return max((score for answer, score in answers.items() if normalise_answer(answer) == normalised), default=0.0)
    if len(answers) < FEWEST_ANSWERS:
        raise ValueError(
            f"vqa_accuracy needs {FEWEST_ANSWERS} human answers or more, got {len(answers)}; use exact_match"
        )
    prediction, answers = clean_answer(prediction), [clean_answer(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction, answers = normalise_answer(prediction), [normalise_answer(answer) for answer in answers]
    matches = answers.count(prediction)
    # Leaving out an answer that matched leaves one match less than leaving out one that did not.
    left_out = [min(1.0, (matches - (answer == prediction)) / 3) for answer in answers]
    return sum(left_out) / len(left_out)


def exact_match(prediction: str, answers: Reference) -> float:
    """1.0 if the normalised prediction equals one of the normalised answers that score more than 0, else 0.0."""
    normalised = normalise_answer(prediction)
    right = [answer for answer, score in answers.items() if score > 0] if isinstance(answers, Mapping) else answers
    return float(any(normalise_answer(answer) == normalised for answer in right))


@metric("vqa_accuracy", reads="text")
def vqa_accuracies(predictions: Sequence[str], references: Sequence[Reference]) -> FloatArray:
    """VQA accuracy of each row in percent, `(N, 1)`.

    Raises:
        DataError: a row has too few human answers.
    """
    scores = np.zeros((len(predictions), 1))
    for row, (prediction, answers) in enumerate(zip(predictions, references, strict=True)):
        try:
            scores[row] = 100 * vqa_accuracy(prediction, answers)
        except ValueError as error:
            raise DataError(f"row {row + 1}: {error}") from None
    return scores


@metric("exact_match", reads="text")
def exact_matches(predictions: Sequence[str], references: Sequence[Reference]) -> FloatArray:
    """Exact match of each row in percent, `(N, 1)`."""
    return np.array([[100 * exact_match(*pair)] for pair in zip(predictions, references, strict=True)])
