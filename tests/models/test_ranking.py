"""The best answer of a closed set is the one that a pass over every question and answer finds."""

from __future__ import annotations

import random

import pytest
import torch
from families import MATRIX, augmented, features, language_model, padded, perceived, perceiving, text

from epalm.errors import DataError
from epalm.models import PerceptualLM
from epalm.models.ranking import search

EOS = 2
LENGTHS = [9, 4, 6, 1]
every = pytest.mark.parametrize(("family", "attention"), MATRIX)
opt_and_llama = pytest.mark.parametrize("family", ["opt", "llama"])


def vocabulary(count: int = 40, seed: int = 0) -> list[list[int]]:
    """Answers of one to five tokens and the end token, many of which begin alike."""
    rng = random.Random(seed)
    return [[rng.randint(4, 12), *(rng.randint(4, 96) for _ in range(rng.randint(0, 4))), EOS] for _ in range(count)]


@torch.no_grad()
def by_force(model: PerceptualLM, answers: list[list[int]], ids: torch.Tensor, row: int, given: dict) -> list[float]:
    """Log-likelihood of every answer after one row: those of one length together, without padding or cache."""
    totals = [0.0] * len(answers)
    for length in {len(answer) for answer in answers}:
        alike = [number for number, answer in enumerate(answers) if len(answer) == length]
        own = {name: tensor[[row] * len(alike)] for name, tensor in given.items()}
        said = torch.tensor([answers[number] for number in alike])
        whole = torch.cat([ids.expand(len(alike), -1), said], dim=1)
        if model.config.mask == "legacy":  # token by token: there the slot sees what is in front of each
            scores = torch.stack(
                [model(whole[:, : len(ids) + at], features=own).logits[:, -1] for at in range(length)], dim=1
            )
        else:
            scores = model(whole, features=own).logits[:, -length - 1 : -1]
        each = scores.log_softmax(-1).gather(2, said[..., None])[..., 0].sum(1)
        for number, total in zip(alike, each.tolist(), strict=True):
            totals[number] = total
    return totals


def check(model: PerceptualLM, given: dict, side: str = "left", pairs: int = 8, lengths: list[int] = LENGTHS) -> None:
    answers = vocabulary()
    ids, mask = padded(text(rows=4), lengths, side)
    ranked = model.rank(answers, ids, mask, features=given, pairs=pairs)
    for row in range(4):
        totals = by_force(model, answers, text(rows=4)[row, : lengths[row]], row, given)
        assert ranked.best[row] == max(range(len(answers)), key=totals.__getitem__)
        assert ranked.log_likelihood[row] == pytest.approx(max(totals), abs=1e-4)


@every
def test_the_best_is_the_best_of_all(family: str, attention: str) -> None:
    model = augmented(language_model(family, attention))
    check(model, {"image": features(4)})


@opt_and_llama
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pairs", [1, 3, 500])
def test_padding_and_how_many_at_once_change_nothing(family: str, side: str, pairs: int) -> None:
    check(augmented(language_model(family, "sdpa"), prompt="none"), {"image": features(4)}, side, pairs)


@opt_and_llama
@pytest.mark.parametrize("kind", ["legacy", "two modalities", "adapters", "blind"])
def test_other_ways_to_perceive(family: str, kind: str) -> None:
    lm = language_model(family, "eager")
    if kind == "legacy":
        check(augmented(lm, mask="legacy"), {"image": features(4)}, lengths=[9] * 4)
    elif kind == "two modalities":
        model = perceiving(lm, "image and audio")
        check(model, perceived(model, 4))
    elif kind == "adapters":
        model = augmented(lm, block_adapters="both")
        with torch.no_grad():
            for parameter in model.block_adapters.parameters():
                parameter.add_(0.1)
        check(model, {"image": features(4)})
    else:
        check(augmented(lm, connector="none", prompt="none"), {})


@opt_and_llama
def test_perception_decides(family: str) -> None:
    model = augmented(language_model(family, "sdpa"))
    ids = text(rows=1).expand(12, -1)
    ranked = model.rank(vocabulary(200), ids, features=features(12))
    assert len(set(ranked.best)) > 1


def test_one_prefill_for_all_answers() -> None:
    model = augmented(language_model("llama", "sdpa"))
    widths: list[int] = []
    hook = model.anatomy.layers[0].register_forward_pre_hook(
        lambda layer, given, named: widths.append(given[0].shape[1]), with_kwargs=True
    )
    model.rank(vocabulary(), text(), features=features(3), pairs=4)
    hook.remove()
    assert widths[0] == 1 + 3 + 9
    assert max(widths[1:]) <= 5


def scored(top_k: int | None, pairs: int = 2) -> tuple[list[int], int]:
    """Three answers that begin likelier and likelier, of which the likeliest ends badly; and how many were tried."""
    first = torch.tensor([[0.05, 0.15, 0.8]]).log()
    tried: list[int] = []

    def rest(questions: list[int], numbers: list[int]) -> list[float]:
        tried.extend(numbers)
        return [{0: 0.0, 1: -0.1, 2: -9.0, 3: -0.2}[number] for number in numbers]

    ranked = search(first, [[0, 9], [1, 9], [2, 9], [1, 8]], rest, top_k, pairs)
    return ranked.best, len(tried)


def test_the_search_ends_when_it_is_sure_or_at_the_limit() -> None:
    assert scored(None, pairs=1) == ([1], 3)  # the fourth begins with less than the second has in all
    assert scored(None, pairs=50) == ([1], 4)
    assert scored(1) == ([2], 1)
    assert scored(2) == ([1], 3)  # two begin alike
    assert scored(9) == ([1], 4)


def test_of_equals_the_first_wins() -> None:
    model = augmented(language_model("opt", "sdpa"))
    answers = vocabulary(6)
    ranked = model.rank([*answers, *answers], text(), features=features(3))
    assert all(number < 6 for number in ranked.best)


def test_what_cannot_be_ranked() -> None:
    model = augmented(language_model("opt", "sdpa"))
    for answers in ([], [[5, EOS], []]):
        with pytest.raises(DataError, match="expected at least one, and tokens in each"):
            model.rank(answers, text(), features=features(3))
    with pytest.raises(DataError, match="9 tokens in the longest are too many after 60 of text"):
        model.rank([[5] * 9], text(length=60), features=features(3))
    assert model.rank([[5] * 5], text(length=60), features=features(3)).best == [0] * 3
