"""What a call may bring: taken where its meaning is plain, else refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from families import augmented, language_model, text
from torch import Tensor
from transformers import BatchEncoding, BatchFeature, ViTConfig, ViTModel

from epalm.errors import ConfigError, DataError, EpalmError
from epalm.models import PerceptualLM


@pytest.fixture(scope="module")
def model() -> PerceptualLM:
    torch.manual_seed(7)
    sizes = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    vision = ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes), add_pooling_layer=False)
    return PerceptualLM.build(language_model("llama", "sdpa"), vision.eval()).eval()


def pixels() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(8))


@torch.no_grad()
@pytest.mark.parametrize(
    "arguments",
    [
        {"pixel_values": {"image": pixels()}},
        {"pixel_values": {"image": {"pixel_values": pixels()}}},
        {"pixel_values": BatchFeature({"pixel_values": pixels()})},
        {"inputs": {"image": BatchFeature({"pixel_values": pixels()})}},
    ],
)
def test_pixels_may_come_by_modality_or_from_a_processor(model: PerceptualLM, arguments: dict) -> None:
    features = model.encode(pixel_values=pixels())
    assert torch.equal(model.encode(**arguments)["image"], features["image"])
    assert torch.equal(model(text(), **arguments).logits, model(text(), features=features).logits)
    ways = {"max_new_tokens": 2}
    assert torch.equal(model.generate(text(), **arguments, **ways), model.generate(text(), features=features, **ways))
    assert model.rank([[5], [6, 7]], text(), **arguments) == model.rank([[5], [6, 7]], text(), features=features)


@torch.no_grad()
def test_numbers_may_be_of_other_types(model: PerceptualLM) -> None:
    features = model.encode(pixel_values=pixels())["image"]
    expected = model(text(), features=features).logits
    for ids in (text().int(), text().to(torch.uint8)):
        for mask in (None, torch.ones_like(text(), dtype=torch.bool), torch.ones(3, 9)):
            assert torch.equal(model(ids, mask, features=features).logits, expected)
            assert model.generate(ids, mask, features=features, max_new_tokens=2).shape[0] == 3
    assert torch.equal(model(text(), features=features.double()).logits, expected)
    loss = model(text(), labels=text(), features=features).loss
    assert torch.equal(model(text(), labels=text().int(), features=features).loss, loss)
    ranked = model.rank([[5], [6, 7]], text(), features=features)
    assert model.rank([torch.tensor([5]), np.array([6, 7])], text(), features=features) == ranked


PIXELS: list[tuple[dict[str, Any], str]] = [
    ({"pixel_values": {"pixels": pixels()}}, "there is no pixels encoder here; there are image"),
    ({"pixel_values": {}}, r"pixel_values: expected a tensor, or \{modality: tensor\}, got nothing"),
    ({"pixel_values": pixels().numpy()}, "pixel_values: .* got a ndarray; torch.as_tensor makes one"),
    ({"pixel_values": list(pixels())}, "pixel_values: .* got a list"),
    ({"pixel_values": "red.png"}, "pixel_values: expected a tensor .* got a str"),
    ({"pixel_values": pixels().to(torch.uint8)}, "image: pixel_values: expected floating-point .* tensor of uint8"),
    ({"pixel_values": pixels()[0]}, r"cannot take \(3, 8, 8\); its own processor gives, for instance, \(B, 3, 8, 8\)"),
    ({"pixel_values": pixels()[..., :6]}, r"cannot take \(3, 3, 8, 6\)"),
    ({"pixel_values": pixels()[:0]}, "expected a row or more"),
    ({"inputs": pixels()}, r"inputs: expected \{modality: \{name: tensor\}\}, got a tensor of float32"),
    ({"inputs": {"image": pixels()}}, r"inputs: image: expected \{'pixel_values': tensor\}"),
    ({"inputs": {"image": None}}, "inputs: image: .* got a NoneType"),
    ({"inputs": {"image": {"pixel_values": pixels().tolist()}}}, "image: pixel_values: .* got a list"),
    ({"inputs": {"image": {"x": pixels()}}}, "needs pixel_values; got x"),
    ({"inputs": BatchFeature({"pixel_values": pixels()})}, "there is no pixel_values encoder here"),
    ({"inputs": [pixels()]}, "inputs: .* got a list"),
]
FEATURES: list[tuple[Any, str]] = [
    (torch.zeros(3, 1, 12).tolist(), "features: expected a tensor .* got a list"),
    (np.zeros((3, 1, 12)), "features: .* got a ndarray"),
    ({"image": None}, "image features: .* got a NoneType"),
    (torch.zeros(3, 1, 12, dtype=torch.long), "image features: expected floating-point numbers, got a tensor of int64"),
    (torch.zeros(3, 1, 12, dtype=torch.bool), "tensor of bool"),
    (torch.zeros(3, 1, 12, dtype=torch.complex64), "a dense tensor of real numbers"),
    (torch.zeros(3, 1, 12).to_sparse(), "a dense tensor of real numbers, got a sparse_coo tensor"),
]
TEXTS: list[tuple[Any, Any, str]] = [
    (text().tolist(), None, "input_ids: .* got a list"),
    (BatchEncoding({"input_ids": text()}), None, "got a BatchEncoding; give its tensors by their names"),
    ("which?", None, "input_ids: .* got a str"),
    (text().float(), None, "input_ids: .* whole numbers, got a tensor of float32"),
    (text() > 9, None, "input_ids: .* got a tensor of bool"),
    (text() + 97, None, "is no token of the language model, 0 to 96"),
    (-text(), None, "is no token of the language model"),
    (text()[:0], None, r"expected \(B, T\) for both"),
    (text(), [[1] * 9] * 3, "attention_mask: .* got a list"),
    (text(), torch.ones(3, 1, 9, 9), r"expected \(B, T\) for both"),
    (text(), 2 * torch.ones(3, 9), "attention_mask: expected 1 for real tokens and 0 for padding, got other numbers"),
    (text(), torch.full((3, 9), -1e9), "attention_mask: expected 1 for real tokens"),
]
LABELS: list[tuple[Any, str]] = [
    (text().tolist(), "labels: .* got a list"),
    (text().float(), "labels: .* got a tensor of float32"),
    (text() + 97, "labels: .* is no token"),
    (torch.full((3, 9), -1), "labels: -1 is no token"),
    (text()[:, 1:], r"labels: expected \(3, 9\) like input_ids"),
]
ANSWERS: list[tuple[Any, str]] = [
    (None, "expected at least one"),
    ([[]], "tokens in each of them"),
    ("red", "answers: 0 .* is a str"),
    ([5, 6], "answers: 0 .* is an int"),
    ([[5], [5.0]], "answers: 1 .* holds 5.0"),
    ([[97]], "answers: 0 .* holds 97; expected tokens, 0 to 96"),
]


def refuses(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(EpalmError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_other_things_are_refused_in_one_line(model: PerceptualLM) -> None:
    def everywhere(message: str, ids: Any = text(), mask: Any = None, **given: Any) -> None:  # noqa: B008
        refuses(lambda: model(ids, mask, **given), message)
        refuses(lambda: model.generate(ids, mask, **given, max_new_tokens=1), message)
        refuses(lambda: model.rank([[5]], ids, mask, **given), message)

    for given, message in PIXELS:
        refuses(lambda given=given: model.encode(**given), message)
        everywhere(message, **given)
    for features, message in FEATURES:
        everywhere(message, features=features)
    ready = torch.zeros(3, 1, 12)
    for ids, mask, message in TEXTS:
        everywhere(message, ids, mask, features=ready)
    for labels, message in LABELS:
        refuses(lambda labels=labels: model(text(), labels=labels, features=ready), message)
    for answers, message in ANSWERS:
        refuses(lambda answers=answers: model.rank(answers, text(), features=ready), message)
    with pytest.raises(DataError, match="attention_mask: is given without input_ids"):
        model.generate(attention_mask=torch.ones(3, 9), features=ready)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model(text(), labels=text(), loss_scale="sum"), "loss_scale: expected one of mean, original"),
        (lambda model: model(text(), labels=text(), label_smoothing=1.5), "label_smoothing: expected a number from 0"),
        (lambda model: model.rank([[5]], text(), top_k=0), "rank: top_k: expected a whole number, at least 1, got 0"),
        (lambda model: model.rank([[5]], text(), pairs=0), "rank: pairs: expected a whole number"),
        (lambda model: model.generate(text(), max_new_tokens="3"), "generate: max_new_tokens: .* at least 1, got '3'"),
        (lambda model: model.generate(text(), num_beams=0), "generate: num_beams: .* at least 1, got 0"),
    ],
)
def test_settings_of_a_call_out_of_range_are_refused(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(augmented(language_model("llama", "sdpa")))
