"""The layers below the window: run once for every text, and no number changes by it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from families import (
    FAMILIES,
    MODALITIES,
    START,
    WIDTH,
    E,
    augmented,
    features,
    language_model,
    new_language_model,
    padded,
    perceived,
    perceiving,
    text,
)
from torch import Tensor

from epalm.errors import ConfigError
from epalm.models import PerceptualLM

LENGTHS = [9, 4, 6]


@pytest.fixture
def runs() -> Callable[[PerceptualLM], list[int]]:
    """Counts how often each decoder layer's own code has run."""

    def count(model: PerceptualLM) -> list[int]:
        counts = [0] * len(model.anatomy.layers)
        for index, layer in enumerate(model.anatomy.layers):
            first = next(part for name, part in layer.named_modules() if "norm" in name or "ln" in name)

            def one_more(*_: object, index: int = index) -> None:
                counts[index] += 1

            first.register_forward_hook(one_more)
        return counts

    return count


def gradients(model: PerceptualLM) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("family", ["opt", "opt-projected", "llama", "gpt2"])
def test_what_is_kept_gives_what_is_computed(family: str, modalities: str, attention: str, side: str) -> None:
    model = perceiving(language_model(family, attention), modalities, prompt="none").train()
    lower = model.lower_layers()
    given = perceived(model, 3)
    ids, mask = padded(text(), LENGTHS, side)
    expected = model(ids, mask, labels=ids, features=given)
    expected.loss.backward()
    wanted = gradients(model)
    for _ in range(2):
        again = model(ids, mask, labels=ids, features=given, lower_layers=lower)
        assert (again.loss - expected.loss).abs() <= 1e-6 * expected.loss
        assert (again.logits - expected.logits).abs().max() <= 1e-6 * expected.logits.abs().max()
        again.loss.backward()
        for name, gradient in gradients(model).items():
            assert (gradient - wanted[name]).abs().max() <= 1e-5 * wanted[name].abs().max(), name
    whole = model(ids, mask, features=given).logits
    kept = model(ids, mask, features=given, lower_layers=lower).logits
    real = mask.bool()
    slots = len(given)
    assert torch.isfinite(kept).all()
    assert (kept - whole)[:, slots:][real].abs().max() <= 1e-6 * whole.abs().max()
    assert torch.equal(model(ids, mask, features=given).logits, whole)  # and without it all is as it was


@pytest.mark.parametrize(
    "family", ["mistral", "qwen3", "gemma2", "gemma3", "phi3", "bloom", "falcon-alibi", "falcon-rotary", "gpt_neox"]
)
@torch.no_grad()
def test_other_families_and_other_batches(family: str) -> None:
    """Texts are kept from a batch padded on one side and met again in another, on the other side."""
    model = augmented(language_model(family, "eager"), prompt="none", start=2, end=4)
    lower = model.lower_layers()
    model(*padded(text(), LENGTHS, "right"), features=features(3), lower_layers=lower)
    order = [2, 0, 2, 1]
    ids, mask = padded(text()[order], [LENGTHS[row] for row in order], "left")
    given = features(3, seed=8)[order]
    expected = model(ids, mask, features=given).logits
    seen = model(ids, mask, features=given, lower_layers=lower).logits
    assert (seen - expected)[:, 1:][mask.bool()].abs().max() <= 5e-6 * expected.abs().max()


def test_texts_that_were_met_run_no_lower_layer(runs: Callable[[PerceptualLM], list[int]]) -> None:
    model = augmented(new_language_model(FAMILIES["opt"]()), prompt="none", start=2, end=4)
    counts = runs(model)
    lower = model.lower_layers()
    ids, mask = padded(text(), LENGTHS, "right")
    model(ids, mask, features=features(3), lower_layers=lower)
    assert counts == [3, 3, 1, 1, 1]  # a text each, below
    for rows in ([0, 1, 2], [2, 0], [1, 1, 1, 1]):
        model(ids[rows], mask[rows], features=features(len(rows)), lower_layers=lower)
    assert counts == [3, 3, 4, 4, 4]
    assert lower.bytes == sum(LENGTHS) * WIDTH * 4
    model(text(seed=9), features=features(3), lower_layers=lower)
    assert counts == [6, 6, 5, 5, 5]
    model.generate(ids, mask, features=features(3), max_new_tokens=1)
    assert counts == [7, 7, 6, 6, 6]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_what_is_kept_does_not_depend_on_what_a_text_was_met_with(attention: str) -> None:
    model = augmented(language_model("llama", attention), prompt="none")
    ids, mask = padded(text(), LENGTHS, "right")
    one, other = model.lower_layers(), model.lower_layers()
    together = one.states(ids, mask)
    for row in (2, 0, 1):
        alone = other.states(ids[row : row + 1], mask[row : row + 1])
        assert torch.equal(alone[0, : LENGTHS[row]], together[row, : LENGTHS[row]])


@pytest.mark.parametrize("family", ["opt", "llama", "mistral"])
def test_new_texts_run_together_where_there_is_an_accelerator(family: str) -> None:
    lower = augmented(language_model(family, "sdpa"), prompt="none").lower_layers()
    rows = [tuple(row[:length].tolist()) for row, length in zip(text(), LENGTHS, strict=True)]
    together = lower._run(rows)
    for row in rows:
        torch.testing.assert_close(together[row], lower._run([row])[row], rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_does_not_fit_is_computed_anew() -> None:
    model = augmented(language_model("llama", "eager"), prompt="none")
    lower = model.lower_layers(most_bytes=10 * WIDTH * 4)
    ids, mask = padded(text(), LENGTHS, "left")
    expected = model(ids, mask, features=features(3)).logits
    for _ in range(2):
        seen = model(ids, mask, features=features(3), lower_layers=lower).logits
        assert (seen - expected)[:, 1:][mask.bool()].abs().max() <= 1e-6 * expected.abs().max()
        assert lower.bytes == 9 * WIDTH * 4  # the first row; neither other has room beside it


def test_texts_that_do_not_fit_cost_what_they_cost_without(runs: Callable[[PerceptualLM], list[int]]) -> None:
    """Each layer below runs once more for every text that is kept, and once at most at every visit."""
    model = augmented(new_language_model(FAMILIES["opt"]()), prompt="none", start=2, end=4)
    counts = runs(model)
    ids, mask = padded(text(), LENGTHS, "right")

    def visits(room: int, batches: list[list[int]]) -> list[int]:
        lower, before = model.lower_layers(most_bytes=room * WIDTH * 4), list(counts)
        for rows in batches:
            model(ids[rows], mask[rows], features=features(len(rows)), lower_layers=lower)
        return [now - then for now, then in zip(counts, before, strict=True)]

    batches = [[0, 1, 2], [2, 0], [1, 1, 2], [0], [2, 1, 0]]
    assert visits(0, batches) == [5, 5, 5, 5, 5]  # as without
    assert visits(9, batches) == [1 + 4, 1 + 4, 5, 5, 5]  # the first text is kept, and one visit has no other
    assert visits(13, batches) == [2 + 4, 2 + 4, 5, 5, 5]
    assert visits(19, batches) == [3, 3, 5, 5, 5]


def test_once_a_text_does_not_fit_no_other_is_kept() -> None:
    model = augmented(language_model("llama", "eager"), prompt="none")
    ids, mask = padded(text(), LENGTHS, "right")
    met, claimed = (model.lower_layers(most_bytes=13 * WIDTH * 4) for _ in range(2))
    claimed.claim(ids[[0, 2]], mask[[0, 2]])
    assert (claimed.full, claimed.bytes) == (True, 9 * WIDTH * 4)
    met.states(ids[[0, 2]], mask[[0, 2]])
    for lower in (met, claimed):
        lower.claim(ids, mask)
        assert lower.bytes == 9 * WIDTH * 4  # the second would have room
    assert torch.equal(met.states(ids, mask), claimed.states(ids, mask))


@torch.no_grad()
def test_padding_inside_a_row_is_a_text_of_its_own() -> None:
    model = augmented(language_model("mistral", "eager"), prompt="none")
    lower = model.lower_layers()
    ids, mask = text(), torch.ones(3, 9, dtype=torch.long)
    model(ids, mask, features=features(3), lower_layers=lower)
    mask[1, 3:5] = 0
    mask[2] = 0  # and a row of nothing but padding does no harm
    expected = model(ids, mask, features=features(3)).logits
    seen = model(ids, mask, features=features(3), lower_layers=lower).logits
    assert (seen - expected)[:, 1:][mask.bool()].abs().max() <= 1e-6 * expected.abs().max()
    assert torch.isfinite(seen).all()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_goes_with_half_precision_and_compiled_layers(compiled: bool) -> None:
    lm = new_language_model(FAMILIES["opt"]()).to(torch.bfloat16)
    model = augmented(lm, prompt="none").train()
    expected = model(text(), labels=text(), features=features(3)).loss
    lower = model.lower_layers()
    with model.compiled_layers(backend="aot_eager") if compiled else nullcontext():
        for _ in range(2):
            seen = model(text(), labels=text(), features=features(3), lower_layers=lower).loss
            assert (seen - expected).abs() < 1e-2 * expected
    assert lower.bytes == text()[:, 1:].numel() * WIDTH * 2  # the last token predicts nothing


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2", "falcon-rotary"])
@pytest.mark.parametrize("modalities", MODALITIES)
def test_without_a_prompt_nothing_below_the_window_waits_for_a_way_back(family: str, modalities: str) -> None:
    model = perceiving(language_model(family, "eager"), modalities, prompt="none").train()
    waits: list[bool] = []

    def look(layer: object, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        waits.append(hidden.requires_grad)

    hooks = [layer.register_forward_hook(look) for layer in model.anatomy.layers]
    model(text(), labels=text(), features=perceived(model, 3)).loss.backward()
    for hook in hooks:
        hook.remove()
    assert waits == [index >= START for index in range(len(model.anatomy.layers))]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"prompt": "plain"}, "a soft prompt is trained below the window, too"),
        ({"prompt": "mlp"}, "a soft prompt is trained below the window, too"),
        ({"block_adapters": "mlp", "bottleneck": 4}, "block adapters are trained below the window, too"),
        ({"mask": "legacy"}, "with the legacy mask the slot sees the padding"),
        ({"start": 0}, "the window begins with the first layer"),
    ],
)
def test_what_depends_on_more_than_the_text_is_refused(settings: dict, reason: str) -> None:
    model = augmented(language_model("opt", "eager"), **{"prompt": "none"} | settings)
    with pytest.raises(ConfigError, match=f"training.cache_lower_layers: {reason}; leave it out") as caught:
        model.lower_layers()
    assert "\n" not in str(caught.value)
    assert model.perception.widths == {"image": E}
