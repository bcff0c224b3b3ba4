"""What goes in and out of the augmented model: perception, positions, precision, settings, refusals."""

from __future__ import annotations

import pytest
import torch
from families import WIDTH, E, K, augmented, features, language_model, new_language_model, padded, text
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, ViTConfig, ViTModel

from epalm.encoders import load_encoder
from epalm.errors import ConfigError, DataError, UnsupportedModelError
from epalm.models import PerceptualLM
from epalm.settings import AdapterConfig

LEARNED, ROTARY = ("opt", "gpt2"), ("llama", "falcon-rotary")


def vision(levels: int = 3, width: int = E) -> ViTModel:
    torch.manual_seed(7)
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=levels,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
    )
    return ViTModel(config, add_pooling_layer=False).eval()


def pictures(rows: int = 3) -> Tensor:
    return torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(8))


def entering_first_layer(model: PerceptualLM, ids: Tensor, mask: Tensor) -> Tensor:
    seen: list[Tensor] = []
    first = model.anatomy.layers[0]
    hook = first.register_forward_pre_hook(
        lambda layer, given, named: seen.append(given[0] if given else named["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        model(ids, mask, features=features(len(ids)))
    hook.remove()
    return seen[0]


@torch.no_grad()
def test_raw_inputs_and_ready_features_give_the_same() -> None:
    model = PerceptualLM.build(language_model("opt", "sdpa"), vision()).eval()
    ready = model.encode(pixel_values=pictures())
    assert ready["image"].shape == (3, model.levels["image"], E)
    expected = model(text(), features=ready).logits
    assert torch.equal(model(text(), features=ready["image"]).logits, expected)
    assert torch.equal(model(text(), pixel_values=pictures()).logits, expected)
    assert torch.equal(model(text(), inputs={"image": {"pixel_values": pictures()}}).logits, expected)
    generated = [
        model.generate(text(), max_new_tokens=4, **given)
        for given in ({"features": ready}, {"pixel_values": pictures()})
    ]
    assert torch.equal(*generated)


def test_encoders_come_in_every_form() -> None:
    lm = language_model("opt", "sdpa")
    encoder = load_encoder(vision())
    for given in (vision(), encoder, {"image": vision()}, {"image": encoder}):
        model = PerceptualLM.build(lm, given)
        assert list(model.encoders) == ["image"]
        assert model.levels == {"image": 1}  # of three levels, the default window of five layers has room for one
    with pytest.raises(ConfigError, match="perceives image, not audio"):
        PerceptualLM.build(lm, {"audio": vision()})


@pytest.mark.parametrize("family", LEARNED)
def test_learned_positions_count_the_text_as_if_nothing_stood_in_front(family: str) -> None:
    model = augmented(language_model(family, "eager"))
    ids, mask = padded(text(), [9, 4, 6], "left")
    entering = entering_first_layer(model, ids, mask)
    table = model.anatomy.position_table
    assert table is not None
    words = model.language_model.get_input_embeddings()
    for row, length in enumerate([9, 4, 6]):
        first = table.num_embeddings - 64  # OPT's table begins two rows late
        expected = words(ids[row, -length:]) + table.weight[first : first + length]
        torch.testing.assert_close(entering[row, -length:], expected)
        prompt = entering[row, -length - 3 : -length]
        torch.testing.assert_close(prompt, model.prompt())


@pytest.mark.parametrize("family", ROTARY)
def test_rotary_positions_count_the_soft_prompt_as_tokens(family: str) -> None:
    model = augmented(language_model(family, "eager"))
    seen: list[Tensor] = []
    hook = model.anatomy.layers[0].register_forward_pre_hook(
        lambda layer, given, named: seen.append(named["position_ids"]), with_kwargs=True
    )
    ids, mask = padded(text(rows=2), [9, 4], "left")
    with torch.no_grad():
        model(ids, mask, features=features(2))
    hook.remove()
    assert seen[0][0].tolist() == [0, *range(12)]
    assert seen[0][1, -7:].tolist() == [*range(7)]


@torch.no_grad()
def test_several_modalities_take_a_slot_each_and_do_not_meet() -> None:
    model = augmented(language_model("llama", "sdpa"), widths={"image": E, "audio": 5})
    both = {"image": features(3), "audio": features(3, seed=9, width=5)}
    assert list(model.perception(both)) == ["audio", "image"]
    ids = text()
    logits = model(ids, features=both).logits
    assert logits.shape[1] == 2 + 3 + ids.shape[1]
    other = both | {"audio": features(3, seed=10, width=5)}
    moved = (model(ids, features=other).logits - logits).abs().amax((0, 2)) > 0
    assert moved[0]
    assert not moved[1]  # the image's slot sees itself alone
    assert moved[2:].all()
    assert model(ids, features={"image": both["image"]}).logits.shape[1] == 1 + 3 + ids.shape[1]
    cached, uncached = (
        model.generate(ids, features=both, max_new_tokens=5, num_beams=2, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    with pytest.raises(DataError, match="of which modality"):
        model(ids, features=both["image"])


@torch.no_grad()
def test_blind_floor_ignores_what_the_others_are_given() -> None:
    lm = language_model("opt", "sdpa")
    model = PerceptualLM.build(lm, vision(), config="text_only").eval()
    assert not model.encoders
    assert set(model.trained_state_dict()) == {"prompt.weight"}
    blind = model(text()).logits
    assert torch.equal(model(text(), pixel_values=pictures()).logits, blind)
    assert torch.equal(model(text(), features=features(3)).logits, blind)
    assert blind.shape[1] == 1 + text().shape[1]


def test_backbones_stay_frozen_and_in_evaluation_mode() -> None:
    model = PerceptualLM.build(new_language_model(LlamaConfig(**TINY_LLAMA)), vision())
    model.train()
    assert model.training
    assert model.perception.connector.training
    assert not any(module.training for module in model.language_model.modules())
    assert not any(module.training for module in model.encoders["image"].modules())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trained) == len(model.trained_state_dict())
    owned = {id(p) for group in model.trained_parameters().values() for p in group}
    assert {id(parameter) for parameter in trained} == owned
    assert set(model.trained_parameters()) == {"connector", "prompt"}


TINY_LLAMA = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_backbone_keeps_its_trained_parts_in_float32(dtype: torch.dtype) -> None:
    lm = new_language_model(LlamaConfig(**TINY_LLAMA))
    model = PerceptualLM.build(lm, config="epalm_ada", encoder_width=E, torch_dtype=dtype).train()
    assert {tensor.dtype for tensor in model.trained_state_dict().values()} == {torch.float32}
    ids = text() % 50
    output = model(ids, labels=ids, features=features(3)[:, :1])
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    gradients = [p.grad for group in model.trained_parameters().values() for p in group]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert model.generate(ids, features=features(3)[:, :1], max_new_tokens=3).shape[0] == 3


def test_inputs_may_be_anywhere() -> None:
    """The meta device refuses to be mixed with any other, as an accelerator would."""
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(language_model("opt", "eager").config, attn_implementation="eager")
    model = augmented(lm)
    ids, mask = padded(text(), [9, 4, 6], "left")
    assert model(ids, mask, features=features(3)).logits.is_meta


def test_same_seed_same_start() -> None:
    lm = language_model("opt", "sdpa")
    starts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        starts.append(PerceptualLM.build(lm, config="epalm", encoder_width=E).trained_state_dict())
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    assert not torch.equal(starts[0]["connector.image.0.weight"], starts[2]["connector.image.0.weight"])


@torch.no_grad()
def test_folding_the_prompt_changes_nothing_that_comes_out() -> None:
    model = augmented(language_model("opt", "sdpa"), prompt="mlp")
    before = model(text(), features=features(3)).logits
    model.fold_prompt()
    assert torch.equal(model(text(), features=features(3)).logits, before)
    assert model.config.prompt == "plain"
    assert model.trained_state_dict()["prompt.weight"].shape == (3, WIDTH)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"end": 6}, "adapter.end: 6 is beyond the language model's 5 layers"),
        ({"start": 5}, "adapter.start: 5 is beyond the language model's 5 layers"),
        ({"start": 0, "end": 5, "levels": 4}, "4 levels, but the image encoder has 3"),
        ({"start": 2, "end": 4, "levels": 3}, "3 levels for the 2 layers of the window"),
        ({"block_adapters": "mlp", "bottleneck": 64}, "64 leaves nothing of the language model's width 32"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        PerceptualLM.build(language_model("opt", "sdpa"), vision(), config=AdapterConfig(**settings))
    assert "\n" not in str(caught.value)


def test_perception_needs_an_encoder_or_its_width() -> None:
    with pytest.raises(ConfigError, match="needs an encoder, or encoder_width"):
        PerceptualLM.build(language_model("opt", "sdpa"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": torch.zeros(3, K, E + 1)}, r"image features: expected \(B, 2, 12\), got \(3, 2, 13\)"),
        ({"features": torch.zeros(3, K + 1, E)}, r"expected \(B, 2, 12\)"),
        ({"features": torch.zeros(2, K, E)}, "perception of 2 inputs for 3 rows of text"),
        ({"features": {"audio": torch.zeros(3, K, E)}}, "'audio' have no connector; there are image"),
        ({"pixel_values": torch.zeros(3, 3, 8, 8)}, "there is no image encoder here"),
    ],
)
def test_perception_that_does_not_fit_is_refused_in_one_line(given: dict, message: str) -> None:
    model = augmented(language_model("opt", "sdpa"))
    for use in (model, model.generate):
        with pytest.raises(DataError, match=message) as caught:
            use(text(), **given)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_perception_that_is_not_finite_is_refused_where_answers_are_made(value: float) -> None:
    model = augmented(language_model("opt", "sdpa"), widths={"image": E, "audio": 5}, levels=None, depths={"image": K})
    given = {name: torch.randn(3, model.levels[name], width) for name, width in model.perception.widths.items()}
    model.generate(text(), features=given, max_new_tokens=1)
    given["audio"][2, -1, 3] = given["audio"][1, 0, 0] = value
    for asked in (
        lambda: model.generate(text(), features=given, max_new_tokens=1),
        lambda: model.rank([[5, 2], [7, 2]], text(), features=given),
    ):
        with pytest.raises(DataError, match=r"^audio features: row 1 of 3 \(from 0\) holds NaN or infinity; mend it"):
            asked()


def test_pictures_that_are_not_finite_are_refused_where_answers_are_made() -> None:
    model = PerceptualLM.build(language_model("opt", "sdpa"), vision(), "epalm_pt")
    pixels = pictures()
    pixels[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match=r"^image features: row 0 of 3"):
        model.generate(text(), pixel_values=pixels, max_new_tokens=1)


def test_text_that_does_not_fit_is_refused_in_one_line() -> None:
    model = augmented(language_model("opt", "sdpa"))
    with pytest.raises(DataError, match="70 tokens, but the language model has positions for 64"):
        model(text(length=70), features=features(3))
    with pytest.raises(DataError, match=r"got \(3, 9\) and \(3, 8\)"):
        model(text(), torch.ones(3, 8), features=features(3))
    with pytest.raises(DataError, match=r"labels: expected \(3, 9\)"):
        model(text(), labels=text(length=8), features=features(3))
    with pytest.raises(DataError, match="none in this batch counts"):
        model(text(), labels=torch.full((3, 9), -100), features=features(3))


def test_unknown_sources_are_named() -> None:
    with pytest.raises(ConfigError, match=r"language model \./no/where"):
        PerceptualLM.build("./no/where", encoder_width=E)


def test_something_else_than_a_language_model_is_refused() -> None:
    for other in (vision(), nn.Linear(2, 2)):
        with pytest.raises(UnsupportedModelError, match=r"not a Hugging Face causal language model|output embedding"):
            PerceptualLM.build(other, encoder_width=E)
