"""What must always hold, for every proven family and attention, on tiny random models."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import torch
from families import (
    END,
    FAMILIES,
    FURTHER_FAMILIES,
    LAYERS,
    LENGTHS,
    MATRIX,
    MODALITIES,
    PROMPT,
    SIDES,
    START,
    augmented,
    features,
    front,
    language_model,
    of_rows,
    padded,
    perceived,
    perceiving,
    text,
    with_other_last_tokens,
)
from torch import Tensor, nn

from epalm.models import PerceptualLM
from epalm.models.selfcheck import PROVEN

every = pytest.mark.parametrize(("family", "attention"), MATRIX)
every_family = pytest.mark.parametrize("family", FAMILIES)
one_and_two = pytest.mark.parametrize("modalities", MODALITIES)


def weights_hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def layer_inputs(model: PerceptualLM, *args: Tensor, **kwargs: Tensor) -> list[Tensor]:
    """What enters every decoder layer in one pass, after the slots are filled."""
    entering: list[Tensor] = []

    def keep(layer: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        entering.append(args[0] if args else kwargs["hidden_states"])

    hooks = [layer.register_forward_hook(keep, with_kwargs=True) for layer in model.anatomy.layers]
    with torch.no_grad():
        model(*args, **kwargs)
    for hook in hooks:
        hook.remove()
    return entering


def test_suite_covers_what_is_called_proven() -> None:
    assert {new().model_type for new in (FAMILIES | FURTHER_FAMILIES).values()} == PROVEN


@every
@one_and_two
@torch.no_grad()
def test_a_later_token_never_changes_an_earlier_position(family: str, attention: str, modalities: str) -> None:
    model = perceiving(language_model(family, attention), modalities)
    for side in SIDES:
        ids, mask = padded(text(), LENGTHS, side)
        changed, last = with_other_last_tokens(ids, side)
        before, after = (model(each, mask, features=perceived(model, 3)).logits for each in (ids, changed))
        for row, column in enumerate(last):
            until = front(model) + column
            assert torch.equal(before[row, :until], after[row, :until]), (side, row)
            assert not torch.equal(before[row, until], after[row, until])


@every
@torch.no_grad()
def test_every_text_token_sees_the_slot_itself(family: str, attention: str) -> None:
    """With a window of the last layer alone no token passes perception on; the sliding windows are shorter."""
    model = augmented(language_model(family, attention), start=LAYERS - 1, end=LAYERS, levels=1)
    first, second = (model(text(), features=features(3, seed)[:, :1]).logits for seed in (2, 5))
    assert ((first - second)[:, front(model) :].abs().amax(-1) > 1e-4).all()


@every
@torch.no_grad()
def test_window_gets_its_levels_and_nothing_outside_gets_any(family: str, attention: str) -> None:
    model = augmented(language_model(family, attention))
    ids, first, second = text(), features(3), features(3, seed=5)
    entering, entering_second = (layer_inputs(model, ids, features=given) for given in (first, second))
    without = layer_inputs(model, ids)
    for index in range(LAYERS):
        rest = entering[index][:, 1:]
        if index <= START:  # what enters the first layer of the window was computed without perception
            torch.testing.assert_close(rest, without[index], rtol=1e-4, atol=1e-5)
            assert torch.equal(rest, entering_second[index][:, 1:])
        else:
            assert not torch.equal(rest, entering_second[index][:, 1:])
    vectors = model.perception(first)["image"]  # (B, K, D)
    assert torch.equal(entering[START][:, 0], vectors[:, 0])
    assert torch.equal(entering[START + 1][:, 0], vectors[:, 1])
    assert END == START + 2
    assert not torch.equal(entering[END][:, 0], vectors[:, 1])


@every
@torch.no_grad()
def test_every_modality_has_a_slot_of_its_own(family: str, attention: str) -> None:
    model = perceiving(language_model(family, attention), "image and audio")
    ids, given = text(), perceived(model, 3)
    vectors = model.perception(given)  # (B, K, D) each
    entering = layer_inputs(model, ids, features=given)
    for layer, level in ((START, {"audio": 0, "image": 0}), (START + 1, {"audio": 0, "image": 1})):
        for slot, name in enumerate(("audio", "image")):
            assert torch.equal(entering[layer][:, slot], vectors[name][:, level[name]])
    logits = model(ids, features=given).logits
    for slot, name in enumerate(("audio", "image")):
        changed = given | {name: perceived(model, 3, seed=5)[name]}
        moved = (model(ids, features=changed).logits - logits).abs().amax((0, 2)) > 0
        assert moved.tolist() == [slot == 0, slot == 1, *[True] * (PROMPT + ids.shape[1])]


@every
@torch.no_grad()
def test_a_modality_that_is_missing_leaves_the_model_of_the_other(family: str, attention: str) -> None:
    """To the bit: a row that brings one of two finds nothing of the second, not even an empty slot."""
    lm = language_model(family, attention)
    both, single = perceiving(lm, "image and audio"), perceiving(lm, "image")
    single.load_trained_state_dict({k: v for k, v in both.trained_state_dict().items() if "audio" not in k})
    ids, mask = padded(text(), LENGTHS, "left")
    pictures = {"image": perceived(both, 3)["image"]}
    assert torch.equal(both(ids, mask, features=pictures).logits, single(ids, mask, features=pictures).logits)


@every
@torch.no_grad()
def test_without_perception_and_prompt_it_is_the_plain_model_to_the_bit(family: str, attention: str) -> None:
    lm = language_model(family, attention)
    model = augmented(lm, prompt="none")
    ids = text()
    assert torch.equal(model(ids).logits, lm(input_ids=ids).logits)
    for side in SIDES:
        ids, mask = padded(text(), LENGTHS, side)
        assert torch.equal(model(ids, mask).logits, lm(input_ids=ids, attention_mask=mask).logits)
    ids, mask = padded(text(), LENGTHS, "left")
    plain = lm.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False)
    assert torch.equal(model.generate(ids, mask, max_new_tokens=4, do_sample=False), plain[:, ids.shape[1] :])


@every
@torch.no_grad()
def test_a_pass_with_perception_leaves_no_trace_in_the_model(family: str, attention: str) -> None:
    lm = language_model(family, attention)
    before = lm(input_ids=text()).logits
    augmented(lm)(text(), features=features(3))
    assert torch.equal(lm(input_ids=text()).logits, before)
    assert not any(module._forward_pre_hooks for module in lm.modules())


@every
@one_and_two
@torch.no_grad()
def test_a_batch_gives_what_its_members_give_alone(family: str, attention: str, modalities: str) -> None:
    model = perceiving(language_model(family, attention), modalities)
    ids, given, how = text(), perceived(model, 3), {"max_new_tokens": 3, "eos_token_id": None}
    batches = {side: padded(ids, LENGTHS, side) for side in SIDES}
    logits = {side: model(*batch, features=given).logits for side, batch in batches.items()}
    generated = {side: model.generate(*batch, features=given, **how) for side, batch in batches.items()}
    assert torch.equal(generated["left"], generated["right"])
    for row, length in enumerate(LENGTHS):
        alone, own = ids[row : row + 1, :length], of_rows(given, slice(row, row + 1))
        expected = model(alone, features=own).logits[0, front(model) :]
        for side in SIDES:
            found = logits[side][row, front(model) :]
            found = found[-length:] if side == "left" else found[:length]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert torch.equal(model.generate(alone, features=own, **how)[0], generated["left"][row])


@every
@one_and_two
@torch.no_grad()
def test_cached_generation_equals_uncached(family: str, attention: str, modalities: str) -> None:
    model = perceiving(language_model(family, attention), modalities)
    ids, mask = padded(text(), LENGTHS, "left")
    for how in ({"num_beams": 1}, {"num_beams": 3}):
        cached, uncached = (
            model.generate(ids, mask, features=perceived(model, 3), max_new_tokens=5, use_cache=use_cache, **how)
            for use_cache in (True, False)
        )
        assert torch.equal(cached, uncached), how
        assert cached.shape[1] > 1


@every
@torch.no_grad()
def test_greedy_generation_follows_the_forward_pass(family: str, attention: str) -> None:
    model = perceiving(language_model(family, attention), "image and audio")
    ids = text(rows=2)
    new = model.generate(ids, features=perceived(model, 2), max_new_tokens=4, do_sample=False, eos_token_id=None)
    logits = model(torch.cat([ids, new], dim=1), features=perceived(model, 2)).logits
    assert torch.equal(logits[:, front(model) + ids.shape[1] - 1 : -1].argmax(-1), new)


@every_family
@torch.no_grad()
def test_every_answer_of_a_row_gets_that_rows_perception(family: str) -> None:
    model = perceiving(language_model(family, "eager"), "image and audio")
    ids, mask = padded(text(), LENGTHS, "left")
    how = {"features": perceived(model, 3), "max_new_tokens": 3, "eos_token_id": None}
    greedy = model.generate(ids, mask, do_sample=False, **how)
    # Sampling from one token only is greedy, whatever the seed: expansion must not mix up the rows.
    certain = model.generate(ids, mask, do_sample=True, top_k=1, num_return_sequences=2, **how)
    assert torch.equal(certain, greedy.repeat_interleave(2, dim=0))
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(model.generate(ids, mask, do_sample=True, top_k=0, num_return_sequences=4, **how))
    assert drawn[0].shape == (12, 3)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    beams = model.generate(ids, mask, do_sample=False, num_beams=3, num_return_sequences=3, **how)
    best = model.generate(ids, mask, do_sample=False, num_beams=3, **how)
    assert torch.equal(beams[::3], best)


@every_family
@one_and_two
def test_loss_over_labelled_rows_is_the_loss_over_all(family: str, modalities: str) -> None:
    model = perceiving(language_model(family, "eager"), modalities)
    for side in SIDES:
        ids, mask = padded(text(), LENGTHS, side)
        labels = ids.masked_fill(mask == 0, -100)
        labels[0, : ids.shape[1] // 2] = -100
        full = model(ids, mask, features=perceived(model, 3)).logits
        expected_rows, targets = [], []
        for row in range(len(ids)):
            real = mask[row].nonzero().flatten().tolist()
            for before, column in itertools.pairwise(real):
                if labels[row, column] != -100:
                    expected_rows.append(full[row, front(model) + before])
                    targets.append(labels[row, column])
        expected = torch.stack(expected_rows)
        output = model(ids, mask, labels, features=perceived(model, 3))
        torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-5)
        loss = nn.functional.cross_entropy(expected, torch.stack(targets))
        torch.testing.assert_close(output.loss, loss, rtol=1e-5, atol=1e-6)


@every_family
@torch.no_grad()
def test_a_token_that_predicts_nothing_is_not_computed(family: str) -> None:
    model = augmented(language_model(family, "eager"))
    ids, mask = padded(text(), LENGTHS, "right")
    columns: list[int] = []
    hook = model.anatomy.layers[0].register_forward_hook(
        lambda layer, args, kwargs, output: columns.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
        with_kwargs=True,
    )
    model(ids, mask, features=features(3))
    model(ids, mask, ids, features=features(3))
    hook.remove()
    assert columns == [front(model) + max(LENGTHS), front(model) + max(LENGTHS) - 1]


@every_family
@one_and_two
def test_loss_and_gradients_are_the_same_where_logits_are_skipped(family: str, modalities: str) -> None:
    model = perceiving(language_model(family, "eager"), modalities).train()
    ids, mask = padded(text(), LENGTHS, "left")
    how = {"features": perceived(model, 3), "loss_scale": "original", "label_smoothing": 0.1}
    results = []
    for skip in (False, True):
        model.zero_grad()
        output = model(ids, mask, ids, **how, skip_logits=skip)
        output.loss.backward()
        results.append((output.loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    assert (output.logits is None) == (family != "gemma2")  # whose logits are capped behind its output embedding
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


@every
def test_a_training_step_changes_what_is_trained_and_nothing_else(family: str, attention: str) -> None:
    lm = language_model(family, attention)
    model = augmented(lm, connector="per_level", prompt="mlp").train()
    before = weights_hash(lm)
    old = {name: tensor.clone() for name, tensor in model.trained_state_dict().items()}
    optimizer = torch.optim.SGD([p for group in model.trained_parameters().values() for p in group], lr=1.0)
    model(text(), labels=text(), features=features(3)).loss.backward()
    with_gradient = {id(parameter) for parameter in model.parameters() if parameter.grad is not None}
    assert with_gradient == {id(p) for group in model.trained_parameters().values() for p in group}
    optimizer.step()
    assert all(not torch.equal(old[name], tensor) for name, tensor in model.trained_state_dict().items())
    assert weights_hash(lm) == before
    assert not lm.training


@every_family
@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same_to_the_bit(family: str, tmp_path) -> None:
    lm = language_model(family, "eager")
    model = augmented(lm)
    model.save_pretrained(tmp_path)
    again = PerceptualLM.from_pretrained(tmp_path, language_model=lm)
    assert torch.equal(again(text(), features=features(3)).logits, model(text(), features=features(3)).logits)
