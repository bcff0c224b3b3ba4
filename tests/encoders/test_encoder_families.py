"""Encoders of six families give what the definition says, computed by their own classes."""

from __future__ import annotations

import copy
import hashlib

import pytest
import torch
import transformers
from tiny_encoders import CONFIG, FAMILIES, LEVELS, SIZE, WIDTH, direct_features, load_directly, own_summary, stir

from epalm.encoders import load_encoder
from epalm.errors import ConfigError, UnsupportedModelError

every_family = pytest.mark.parametrize("name", FAMILIES)
every_attention = pytest.mark.parametrize("attn", ["eager", "sdpa"])


def weights_hash(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@every_attention
@every_family
def test_features_are_normed_levels_of_the_model_called_directly(folders, pixels, name, attn):
    encoder = load_encoder(folders[name], attn_implementation=attn)
    model = load_directly(name, folders[name], attn)
    assert encoder.backbone.config._attn_implementation == attn
    for levels in (1, 3, LEVELS):
        features = encoder.features({"pixel_values": pixels}, levels)
        assert features.shape == (4, levels, WIDTH)
        torch.testing.assert_close(features, direct_features(name, model, pixels, levels), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features[:, -1], own_summary(name, model, pixels), rtol=1e-5, atol=1e-6)


@every_family
def test_levels_run_shallow_to_deep_and_differ(folders, pixels, name):
    encoder = load_encoder(folders[name])
    every = encoder.features({"pixel_values": pixels}, LEVELS)
    assert torch.equal(every[:, -2:], encoder.features({"pixel_values": pixels}, 2))
    distances = torch.cdist(every[0], every[0]) + 10 * torch.eye(LEVELS)
    assert distances.min() > 1e-3


@every_attention
@every_family
def test_a_batch_gives_what_its_members_give(folders, pixels, name, attn):
    encoder = load_encoder(folders[name], attn_implementation=attn)
    together = encoder.features({"pixel_values": pixels}, 3)
    alone = torch.cat([encoder.features({"pixel_values": picture[None]}, 3) for picture in pixels])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@every_family
def test_eager_and_sdpa_agree(folders, pixels, name):
    eager, sdpa = (load_encoder(folders[name], attn_implementation=attn) for attn in ("eager", "sdpa"))
    inputs = {"pixel_values": pixels}
    torch.testing.assert_close(eager.features(inputs, 3), sdpa.features(inputs, 3), rtol=1e-4, atol=1e-5)


@every_family
def test_tokens_are_all_of_the_last_level(folders, pixels, name):
    encoder = load_encoder(folders[name])
    tokens = encoder.tokens({"pixel_values": pixels})
    extra = {"deit": 2, "siglip": 0}.get(name, 1)
    assert tokens.shape == (4, (SIZE // 8) ** 2 + extra, WIDTH)
    if name != "beit-mean":  # which norms its pooled patches, and never its tokens
        last = encoder.features({"pixel_values": pixels}, 1)[:, 0]
        torch.testing.assert_close(tokens.mean(dim=1) if name == "siglip" else tokens[:, 0], last)


@every_family
def test_every_token_of_every_level(folders, pixels, name):
    encoder, inputs = load_encoder(folders[name]), {"pixel_values": pixels}
    features = encoder.every_token(inputs, 3)
    assert features.mask.all()
    every = features.values
    assert every.shape == (4, 3, encoder.token_count, WIDTH)
    assert not every.requires_grad
    assert torch.equal(every[:, -1], encoder.tokens(inputs))
    assert torch.equal(every[:, 1:], encoder.every_token(inputs, 2).values)
    if name != "beit-mean":
        summary = every.mean(dim=2) if name == "siglip" else every[:, :, 0]
        torch.testing.assert_close(summary, encoder.features(inputs, 3))
    with pytest.raises(ConfigError, match="has 5 levels, 6 were asked for"):
        encoder.every_token(inputs, 6)


def test_tokens_that_are_not_always_as_many_are_refused(folders):
    encoder = load_encoder(folders["dinov2"])
    larger = torch.zeros(1, 3, SIZE + 8, SIZE)
    assert encoder.features({"pixel_values": larger}, 1).shape == (1, 1, WIDTH)
    with pytest.raises(UnsupportedModelError, match="gives 21 tokens of one input and 17 of another"):
        encoder.every_token({"pixel_values": larger}, 1)


@every_family
def test_special_tokens_and_the_grid_of_patches(folders, name):
    encoder = load_encoder(folders[name])
    assert encoder.special_tokens == {"deit": 2, "siglip": 0}.get(name, 1)
    assert encoder.grid == (SIZE // 8, SIZE // 8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 44)])
def test_registers_and_pictures_that_are_no_squares(height, width):
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(**CONFIG, num_register_tokens=4)
    sizes = {"size": {"height": height, "width": width}, "do_center_crop": False}
    backbone = stir(transformers.Dinov2WithRegistersModel(config))
    encoder = load_encoder(backbone, processor=transformers.BitImageProcessorPil(**sizes))
    assert (encoder.special_tokens, encoder.grid) == (5, (height // 8, width // 8))
    assert encoder.token_count == 5 + height // 8 * (width // 8)
    bare = load_encoder(copy.deepcopy(backbone).to("meta"))
    assert bare.grid is None or bare.special_tokens == 5


@every_family
def test_frozen_whatever_the_mode(folders, pixels, name):
    encoder = load_encoder(folders[name])
    # what a training run would disturb, were the backbone ever out of evaluation mode
    dropouts = [module for module in encoder.backbone.modules() if isinstance(module, torch.nn.Dropout)]
    for dropout in dropouts:
        dropout.p = 0.5
    before, state = encoder.features({"pixel_values": pixels}, 3), weights_hash(encoder)
    outer = torch.nn.ModuleList([encoder]).train()
    after = encoder.features({"pixel_values": pixels}, 3)
    assert encoder.training
    assert not any(module.training for module in encoder.backbone.modules())
    assert torch.equal(before, after)
    assert not after.requires_grad
    assert not any(parameter.requires_grad for parameter in outer.parameters())
    assert weights_hash(encoder) == state


@every_family
def test_nothing_stays_hooked_and_the_backbone_stays_its_own(folders, pixels, name):
    encoder = load_encoder(folders[name])
    encoder.features({"pixel_values": pixels}, 3)
    for module in encoder.backbone.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    own = {"backbone." + key for key in encoder.backbone.state_dict()}
    assert set(encoder.state_dict()) == own  # the final norm is not stored a second time
    twin = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(
        encoder.features({"pixel_values": pixels}, 1), load_encoder(folders[name]).features({"pixel_values": pixels}, 1)
    )
    assert not twin.features({"pixel_values": pixels}, 1).any()


def test_what_the_contract_tells(folders):
    encoder = load_encoder(folders["vit"])
    assert (encoder.modality, encoder.input_names) == ("image", ("pixel_values",))
    assert (encoder.width, encoder.levels, encoder.source) == (WIDTH, LEVELS, str(folders["vit"]))


@pytest.mark.parametrize("levels", [0, -1, LEVELS + 1])
def test_levels_out_of_range(folders, pixels, levels):
    with pytest.raises(ConfigError, match=rf"has 5 levels, {levels} were asked for"):
        load_encoder(folders["vit"]).features({"pixel_values": pixels}, levels)


def test_missing_input(folders):
    with pytest.raises(ConfigError, match="needs pixel_values; got audio"):
        load_encoder(folders["vit"]).features({"audio": torch.zeros(1)}, 1)


@every_family
def test_sixteen_bit_weights_take_inputs_of_32(folders, pixels, name):
    exact = load_encoder(folders[name]).features({"pixel_values": pixels}, 3)
    half = load_encoder(folders[name], dtype=torch.bfloat16).features({"pixel_values": pixels}, 3)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() < 0.05 * exact.norm()
