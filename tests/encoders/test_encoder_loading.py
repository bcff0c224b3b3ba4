"""Every way in to an encoder, and what is refused at the door."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_encoders
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_encoders import CONFIG, LEVELS, SIZE, WIDTH, build, save, save_processor, stir

from epalm.encoders import ImageEncoder, PerceptualEncoder, load_encoder, register_encoder, registry
from epalm.errors import ConfigError, EpalmError, UnsupportedModelError

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def refusal(source, **settings) -> str:
    with pytest.raises(EpalmError) as caught:
        load_encoder(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("name", "whole"), [("clip", "CLIP"), ("siglip", "Siglip")])
def test_of_two_towers_the_one_that_sees_is_taken(tmp_path, pixels, name, whole, caplog):
    text = {**SMALL, "vocab_size": 40, "projection_size": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = getattr(transformers, f"{whole}Config")(text_config=text, vision_config=CONFIG)
    model = stir(getattr(transformers, f"{whole}Model")(config))
    model.save_pretrained(tmp_path)
    save_processor(name, tmp_path)
    caplog.clear()
    encoder = load_encoder(tmp_path)
    assert not caplog.records  # no table of the other tower's weights
    assert type(encoder.backbone).__name__ == f"{whole}VisionModel"
    expected = load_encoder(model.vision_model).features({"pixel_values": pixels}, 3)
    assert torch.equal(encoder.features({"pixel_values": pixels}, 3), expected)
    assert torch.equal(load_encoder(model).features({"pixel_values": pixels}, 3), expected)


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2", "beit", "beit-mean"])
def test_a_classifiers_checkpoint_is_read_below_its_head(tmp_path, pixels, name):
    family = tiny_encoders.FAMILIES[name]
    config = getattr(transformers, family.config)(**CONFIG, **family.settings)
    model = stir(getattr(transformers, family.model.replace("Model", "ForImageClassification"))(config))
    model.save_pretrained(tmp_path)
    save_processor(name, tmp_path)
    encoder = load_encoder(tmp_path)
    expected = tiny_encoders.direct_features(name, model.base_model, pixels, 3)
    torch.testing.assert_close(encoder.features({"pixel_values": pixels}, 3), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        load_encoder(model).features({"pixel_values": pixels}, 3), expected, rtol=1e-5, atol=1e-6
    )


def test_a_live_module_is_taken_as_it_is(folders, pixels):
    model = build("vit").to(torch.float64)
    encoder = load_encoder(model, attn_implementation="eager")
    assert encoder.backbone is model
    assert model.config._attn_implementation == "eager"
    assert encoder.source is None
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert encoder.features({"pixel_values": pixels}, 2).dtype == torch.float64
    expected = load_encoder(folders["vit"]).features({"pixel_values": pixels}, 2)
    torch.testing.assert_close(load_encoder(model, dtype=torch.float32).features({"pixel_values": pixels}, 2), expected)
    with pytest.raises(ConfigError, match="built without an image processor"):
        encoder.preprocess([])
    named = transformers.ViTModel.from_pretrained(folders["vit"])
    assert load_encoder(named).source == str(folders["vit"])


def test_a_checkpoint_of_16_bits_is_computed_in_32_unless_told_otherwise(tmp_path):
    build("vit").to(torch.bfloat16).save_pretrained(tmp_path)
    save_processor("vit", tmp_path)
    assert load_encoder(tmp_path).backbone.dtype == torch.float32
    assert load_encoder(tmp_path, dtype=torch.bfloat16).backbone.dtype == torch.bfloat16


def test_on_the_meta_device_there_are_shapes():
    with torch.device("meta"):
        model = transformers.ViTModel(transformers.ViTConfig(**CONFIG))
        pixels = torch.empty(2, 3, SIZE, SIZE)
    encoder = load_encoder(model)
    assert (encoder.width, encoder.levels) == (WIDTH, LEVELS)
    assert encoder.features({"pixel_values": pixels}, 3).shape == (2, 3, WIDTH)


def test_a_processor_of_ones_own(folders, tmp_path):
    shutil.copytree(folders["vit"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "preprocessor_config.json").unlink()
    assert "processor" in refusal(tmp_path)
    processor = transformers.ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    assert load_encoder(tmp_path, processor=processor).processor is processor


def test_loading_draws_no_random_numbers(folders):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_encoder(folders["vit"])
    assert torch.equal(torch.rand(4), expected)


def test_checkpoint_with_a_hole(folders, tmp_path):
    shutil.copytree(folders["vit"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    for key in [key for key in weights if key.endswith("layernorm.weight") and "layer." not in key]:
        del weights[key]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 weights that its levels need, first 'layernorm.weight'" in refusal(tmp_path)


def test_checkpoint_with_a_hole_in_the_norm_of_its_pooler(folders, tmp_path):
    shutil.copytree(folders["beit-mean"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("pooler.layernorm.bias")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert "first 'pooler.layernorm.bias'" in refusal(tmp_path)


def test_processor_of_another_size(folders, tmp_path):
    shutil.copytree(folders["vit"], tmp_path, dirs_exist_ok=True)
    transformers.ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    assert "does not accept pixel_values (3, 3, 64, 64)" in refusal(tmp_path)


def test_files_that_are_missing_or_damaged(folders, tmp_path):
    assert refusal(tmp_path / "nowhere").endswith("no such directory")
    assert refusal("toyworld/nothing").startswith("toyworld/nothing: no such toy backbone")
    for number, (file, content, reason) in enumerate(
        [
            ("config.json", b"{", "config.json is not valid JSON"),
            ("config.json", b"{}", "its config.json names no model_type"),
            ("preprocessor_config.json", b"{", "preprocessor_config.json is not valid JSON"),
            ("preprocessor_config.json", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
            ("model.safetensors", b"abc", "model.safetensors is no safetensors file"),
            ("model.safetensors", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ]
    ):
        folder = tmp_path / str(number)
        shutil.copytree(folders["vit"], folder)
        (folder / file).write_bytes(content)
        assert refusal(folder).startswith(f"{folder}: ")
        assert reason in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "holds no weights; download model.safetensors" in refusal(folder)


def test_weights_and_settings_of_different_encoders(folders, tmp_path):
    shutil.copytree(folders["vit"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    for changes, reason in (
        ({"num_hidden_layers": LEVELS - 1}, f"its config.json has {LEVELS - 1} layers, its weights have more"),
        ({"intermediate_size": 40}, "has shape [48] in its weights and [40] by its config.json"),
        ({"model_type": "quux", "auto_map": {"AutoConfig": "code.Config"}}, "needs code of its own (auto_map)"),
        ({"quantization_config": {"quant_method": "vptq"}}, "requires VPTQ"),
        ({"quantization_config": {"quant_method": "quux"}}, "quantised by 'quux', which transformers"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        assert reason in refusal(tmp_path)


def test_what_is_no_encoder_at_all(folders, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "holds a PEFT adapter (LORA), which is not read" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    assert "holds GGUF files" in refusal(tmp_path)
    assert "encoders are read from directories of transformers alone" in refusal(tmp_path / "model.gguf")


def test_an_architecture_nobody_knows(folders, tmp_path):
    shutil.copytree(folders["vit"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "quux"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "quux" in refusal(tmp_path)
    assert "bogus" in refusal(folders["vit"], attn_implementation="bogus")
    assert "bogus" in refusal(build("vit"), attn_implementation="bogus")


def test_a_tower_that_has_no_model_of_its_own(tmp_path):
    transformers.BlipConfig().save_pretrained(tmp_path)
    assert "AutoModel has no model of type 'blip_vision_model'" in refusal(tmp_path)


UNSERVED = {
    "text": (lambda: transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=9)), "'bert' models take text"),
    "two-in-one": (lambda: transformers.ViltModel(transformers.ViltConfig(**SMALL)), "take image and text"),
    "hierarchical": (
        lambda: transformers.SwinModel(
            transformers.SwinConfig(
                embed_dim=16, depths=[1, 1], num_heads=[2, 2], image_size=32, window_size=2, patch_size=4
            )
        ),
        "its levels differ in shape",
    ),
    "convolutional": (
        lambda: transformers.ConvNextModel(transformers.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4)),
        "do not pass tokens",
    ),
    "no depth": (
        lambda: transformers.MobileViTModel(transformers.MobileViTConfig()),
        "has no stack of equal blocks",
    ),
    "random": (
        lambda: transformers.ViTMAEModel(transformers.ViTMAEConfig(**CONFIG)),
        "different features for the same input",
    ),
    "normless": (
        lambda: transformers.BeitModel(transformers.BeitConfig(**CONFIG), add_pooling_layer=False),
        "no final norm",
    ),
    "not a number": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**CONFIG)).apply(
            lambda module: module.bias.data.fill_(float("nan")) if isinstance(module, torch.nn.LayerNorm) else None
        ),
        "not finite numbers in torch.float32",
    ),
    "foreign": (lambda: torch.nn.Linear(2, 2), "only Hugging Face models"),
}


@pytest.mark.parametrize("kind", UNSERVED)
def test_what_cannot_be_served_is_refused_at_the_door(kind):
    make, reason = UNSERVED[kind]
    torch.manual_seed(0)
    model = make()
    with pytest.raises(UnsupportedModelError) as caught:
        load_encoder(model)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "config", "settings", "tokens_first"),
    [
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {}, True),
        ("DINOv3ViTModel", "DINOv3ViTConfig", {}, True),
        ("IJepaModel", "IJepaConfig", {}, False),
        ("Aimv2VisionModel", "Aimv2VisionConfig", {}, False),
    ],
)
def test_families_nobody_told_us_of(pixels, model, config, settings, tokens_first):
    torch.manual_seed(0)
    live = stir(getattr(transformers, model)(getattr(transformers, config)(**CONFIG, **settings)))
    last = load_encoder(live).features({"pixel_values": pixels}, 2)[:, -1]
    with torch.no_grad():
        tokens = live(pixels).last_hidden_state
    torch.testing.assert_close(last, tokens[:, 0] if tokens_first else tokens.mean(dim=1), rtol=1e-5, atol=1e-6)


def test_a_new_family_is_one_class_with_one_decorator(monkeypatch, pixels):
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    model = build("siglip")
    assert type(load_encoder(model)) is ImageEncoder

    @register_encoder("siglip_vision_model")
    class HalfBlind(ImageEncoder):
        """Takes the lower half of a picture for padding."""

        def token_mask(self, inputs):
            mask = torch.zeros(len(inputs["pixel_values"]), (SIZE // 8) ** 2, dtype=torch.bool)
            mask[:, :8] = True
            return mask

    encoder = load_encoder(model)
    assert isinstance(encoder, HalfBlind)
    assert isinstance(encoder, PerceptualEncoder)
    with torch.no_grad():
        tokens = model(pixels).last_hidden_state  # (B, S, E), normed
    last = encoder.features({"pixel_values": pixels}, 1)[:, 0]
    torch.testing.assert_close(last, tokens[:, :8].mean(dim=1), rtol=1e-5, atol=1e-6)
    assert type(load_encoder(build("vit"))) is ImageEncoder


def test_the_same_directory_gives_the_same_features_anywhere(folders, tmp_path, pixels):
    moved = save("clip", tmp_path / "moved")
    one, other = load_encoder(str(folders["clip"])), load_encoder(Path(moved))
    assert torch.equal(one.features({"pixel_values": pixels}, 2), other.features({"pixel_values": pixels}, 2))
