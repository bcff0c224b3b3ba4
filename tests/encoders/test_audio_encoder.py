"""Sounds -> features: AST, Whisper, wav2vec 2.0 and its kin, CLAP."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_watchers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_encoders import stir
from tiny_watchers import AUDIO, BODY, LEVELS, RATE, WIDTH, block_outputs, build, load_directly, save, sound

from epalm.encoders import (
    AudioEncoder,
    ClapEncoder,
    SpectrogramEncoder,
    SpeechEncoder,
    WaveformEncoder,
    load_encoder,
)
from epalm.encoders.anatomy import first_output
from epalm.errors import ConfigError, MediaError, UnsupportedModelError
from epalm.media import load_audio

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

every_family = pytest.mark.parametrize("name", AUDIO)
WAVES = ["wav2vec2", "wav2vec2-stable", "hubert", "hubert-stable", "wavlm"]
EXACT = {"rtol": 1e-5, "atol": 1e-6}
# class that serves it, where its own class keeps the blocks and the final norm, levels
PARTS = {
    "ast": (SpectrogramEncoder, "layers", "layernorm", LEVELS),
    "whisper": (SpeechEncoder, "model.encoder.layers", "model.encoder.layer_norm", LEVELS),
    "wav2vec2": (WaveformEncoder, "encoder.layers", None, LEVELS),
    "wav2vec2-stable": (WaveformEncoder, "wav2vec2.encoder.layers", "wav2vec2.encoder.layer_norm", LEVELS),
    "hubert": (WaveformEncoder, "encoder.layers", None, LEVELS),
    "hubert-stable": (WaveformEncoder, "encoder.layers", "encoder.layer_norm", LEVELS),
    "wavlm": (WaveformEncoder, "encoder.layers", None, LEVELS),
    "clap": (ClapEncoder, "audio_model.audio_encoder.layers.1.blocks", "audio_model.audio_encoder.norm", 3),
    "clap-fused": (ClapEncoder, "audio_model.audio_encoder.layers.1.blocks", "audio_model.audio_encoder.norm", 3),
}
WINDOWS = {"ast": 400 + 63 * 160, "whisper": 2 * RATE, "clap": 2 * RATE, "clap-fused": 2 * RATE}


@pytest.fixture(scope="module")
def sound_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in AUDIO}


def full(name: str) -> int:
    """Samples of a sound that fills the window, so that nothing is padded."""
    return WINDOWS.get(name, 3000)


def own_inputs(name: str, samples: np.ndarray) -> dict[str, torch.Tensor]:
    """One sound through the family's own feature extractor."""
    inputs = dict(tiny_watchers.processor(name)([samples], sampling_rate=RATE, return_tensors="pt"))
    if "is_longer" in inputs:
        inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
    return inputs


def perceived(encoder: AudioEncoder, sounds: list[np.ndarray], levels: int) -> torch.Tensor:
    return encoder.features(encoder.preprocess(sounds), levels)


@torch.no_grad()
def direct_states(name: str, model: torch.nn.Module, samples: np.ndarray) -> list[torch.Tensor]:
    """Every token of every level, under the final norm where there is one, each (1, S, E)."""
    _, blocks, norm, _ = PARTS[name]
    inputs = own_inputs(name, samples)
    if name == "whisper":
        inputs["decoder_input_ids"] = torch.tensor([[1]])
    if name.startswith("clap"):
        inputs |= {"input_ids": torch.tensor([[3]])}
    states = block_outputs(model, blocks, **inputs)
    return [state if norm is None else model.get_submodule(norm)(state) for state in states]


@every_family
def test_features_are_normed_levels_of_the_model_called_directly(sound_folders, name):
    encoder, model = load_encoder(sound_folders[name]), load_directly(name, sound_folders[name])
    kind, _, _, levels = PARTS[name]
    assert type(encoder) is kind
    assert (encoder.modality, encoder.width, encoder.levels) == ("audio", WIDTH, levels)
    assert (encoder.rate, encoder.reading) == (RATE, {"rate": RATE, "window": encoder.window})
    samples = sound(1, full(name))
    states = direct_states(name, model, samples)
    assert len(states) == levels
    expected = torch.stack([state[:, 0] if name == "ast" else state.mean(dim=1) for state in states], dim=1)
    for count in (1, 2, levels):
        features = perceived(encoder, [samples], count)
        assert features.shape == (1, count, WIDTH)
        torch.testing.assert_close(features, expected[:, -count:], **EXACT)
    assert torch.cdist(features[0], features[0]).add(10 * torch.eye(levels)).min() > 1e-3
    tokens = encoder.tokens(encoder.preprocess([samples]))
    torch.testing.assert_close(tokens, states[-1], **EXACT)


@pytest.mark.parametrize(
    ("name", "part", "changes", "reason"),
    [
        ("ast", None, {"num_hidden_layers": LEVELS - 1}, f"its config.json has {LEVELS - 1} layers, its weights have"),
        ("whisper", None, {"encoder_layers": LEVELS - 1}, f"its config.json has {LEVELS - 1} layers, its weights have"),
        ("whisper", None, {"encoder_ffn_dim": 40}, "and [40"),
        ("clap", "audio_config", {"depths": [1, 3]}, "the two are of different models"),
        ("clap", "audio_config", {"patch_embeds_hidden_size": 16}, "the two are of different models"),
    ],
)
def test_weights_and_settings_of_different_sound_encoders(sound_folders, tmp_path, name, part, changes, reason):
    shutil.copytree(sound_folders[name], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (config[part] if part else config).update(changes)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as refused:
        load_encoder(tmp_path, modality="audio")
    assert reason in str(refused.value)


def test_every_token_of_every_level_of_a_spectrogram(sound_folders):
    encoder = load_encoder(sound_folders["ast"])
    inputs = encoder.preprocess([sound(1, 3000), sound(2, 2 * full("ast"))])
    every = encoder.every_token(inputs, 3)
    assert every.values.shape == (2, 3, encoder.token_count, WIDTH)
    assert every.mask.all()
    assert torch.equal(every.values[:, -1], encoder.tokens(inputs))
    torch.testing.assert_close(every.values[:, :, 0], encoder.features(inputs, 3))
    assert (encoder.special_tokens, encoder.grid, encoder.most_tokens) == (2, None, encoder.token_count)


@pytest.mark.parametrize("name", [name for name in AUDIO if name != "ast"])
def test_every_token_of_a_sound_alone_and_among_longer_ones(sound_folders, name, monkeypatch):
    monkeypatch.setattr("epalm.encoders.audio_families._SECONDS", 1)
    encoder = load_encoder(sound_folders[name])
    assert (encoder.special_tokens, encoder.grid, encoder.token_count) == (0, None, None)
    sounds = [sound(seed, samples) for seed, samples in enumerate([1700, 9000, 1700, 403, 5000])]
    inputs = encoder.preprocess(sounds)
    every = encoder.every_token(inputs, 3)
    assert torch.equal(every.mask.sum(dim=1), encoder.token_mask(inputs).sum(dim=1))
    assert every.mask.any(dim=0).all()  # cut to the longest
    filled = encoder.preprocess([sound(1, encoder.window)])
    assert encoder.most_tokens == encoder.every_token(filled, 1).mask.shape[1]
    assert torch.equal(every.mask, every.mask.cummin(dim=1).values)  # padding stands behind
    assert not every.values.movedim(1, 2)[~every.mask].any()
    assert not every.values.requires_grad
    for samples, tokens, mean in zip(sounds, every.single(), encoder.features(inputs, 3), strict=True):
        alone = encoder.preprocess([samples])
        torch.testing.assert_close(tokens.mean(dim=1), mean, **EXACT)
        torch.testing.assert_close(tokens, encoder.every_token(alone, 3).values[0], rtol=1e-4, atol=1e-5)
        last = encoder.tokens(alone)[encoder.token_mask(alone)]  # (N, E)
        torch.testing.assert_close(tokens[-1], last, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="levels, 9 were asked for"):
        encoder.every_token(inputs, 9)


@pytest.mark.parametrize("name", ["ast", "whisper", "wav2vec2", "wav2vec2-stable", "hubert", "hubert-stable"])
@torch.no_grad()
def test_the_last_level_is_what_the_model_ends_in(sound_folders, name):
    model = load_directly(name, sound_folders[name])
    body = model.model.encoder if name == "whisper" else model.base_model
    samples = sound(2, full(name))
    output = body(**own_inputs(name, samples), output_hidden_states=True)
    tokens = output.last_hidden_state
    expected = tokens[:, 0] if name == "ast" else tokens.mean(dim=1)
    torch.testing.assert_close(perceived(load_encoder(sound_folders[name]), [samples], 1)[:, 0], expected, **EXACT)
    assert len(output.hidden_states) == LEVELS + 1


@pytest.mark.parametrize("name", ["clap", "clap-fused"])
@torch.no_grad()
def test_the_last_level_of_clap_is_what_its_tower_pools(sound_folders, name):
    samples = sound(2, full(name))
    pooled = load_directly(name, sound_folders[name]).audio_model(**own_inputs(name, samples)).pooler_output
    torch.testing.assert_close(perceived(load_encoder(sound_folders[name]), [samples], 1)[:, 0], pooled, **EXACT)


@every_family
def test_a_sound_is_the_same_alone_and_among_longer_ones(sound_folders, name):
    encoder = load_encoder(sound_folders[name])
    sounds = [sound(seed, samples) for seed, samples in enumerate([1700, 9000, 1700, 403, 5000])]
    together = perceived(encoder, sounds, 3)
    alone = torch.cat([perceived(encoder, [sound], 3) for sound in sounds])
    torch.testing.assert_close(together, alone, **EXACT)
    assert torch.cdist(together[:, -1], together[:, -1]).add(10 * torch.eye(5)).min() > 1e-4


@pytest.mark.parametrize("name", ["whisper", *WAVES])
def test_only_tokens_of_the_sound_are_averaged(sound_folders, name):
    encoder, model = load_encoder(sound_folders[name]), load_directly(name, sound_folders[name])
    samples = sound(3, 4000)
    states = direct_states(name, model, samples)
    assert states[-1].shape[1] == (100 if name == "whisper" else 50)
    heard = 13 if name == "whisper" else 50  # of 100 tokens of 320 samples; of 50, which all are sound
    expected = torch.stack([state[:, :heard].mean(dim=1) for state in states], dim=1)
    torch.testing.assert_close(perceived(encoder, [sound(4, 9000), samples], LEVELS)[1:], expected, **EXACT)


@pytest.mark.parametrize("name", ["whisper", "clap"])
def test_what_the_encoder_makes_of_padding_never_enters_the_mean(sound_folders, name):
    encoder = load_encoder(sound_folders[name])
    sounds = [sound(3, 12_000), sound(4, 8_001)]
    inputs = encoder.preprocess(sounds)
    mask, expected = encoder.token_mask(inputs), encoder.features(inputs, 1)
    assert not mask.all()

    def spoil(_module, _args, output):
        spoiled = first_output(output).masked_fill(~mask.unsqueeze(-1), float("nan"))
        return (spoiled, *output[1:]) if isinstance(output, tuple) else spoiled

    encoder.anatomy.blocks[-1].register_forward_hook(spoil)
    assert torch.equal(encoder.features(inputs, 1), expected)
    assert encoder.every_token(inputs, 1).values.isfinite().all()
    assert encoder.tokens(inputs)[~mask].isnan().all()


@pytest.mark.parametrize(("samples", "silence"), [(8_000, 0), (8_000, 1), (8_001, 8_000), (300, 31_700)])
def test_silence_that_belongs_to_a_recording_counts_by_its_length(sound_folders, samples, silence):
    """Whisper's window is filled up with the same silence: the tokens are equal, and more of them are averaged."""
    encoder = load_encoder(sound_folders["whisper"])
    short = sound(5, samples)
    inputs = encoder.preprocess([short, np.pad(short, (0, silence))])
    cut, longer = encoder.tokens(inputs)
    torch.testing.assert_close(cut, longer, **EXACT)
    for features, length in zip(encoder.features(inputs, 1)[:, 0], (samples, samples + silence), strict=True):
        torch.testing.assert_close(features, longer[: math.ceil(length / 320)].mean(dim=0), **EXACT)


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_only_tokens_of_the_sound_are_averaged_in_claps_folded_spectrogram(sound_folders, padding):
    processor = tiny_watchers.processor("clap")
    processor.padding = padding
    encoder = load_encoder(sound_folders["clap"], processor=processor)
    samples = sound(3, 12_000)  # of 32,000: it fits twice
    heard = {"repeatpad": 24_000, "repeat": 32_000, "pad": 12_000}[padding] / 32_000
    inputs = encoder.preprocess([samples])
    # 4 stretches of time, one below the other, each 2 tokens high (pitch) and 8 wide (time)
    times = torch.arange(4)[:, None, None] * 8 + torch.arange(8)  # (stretch, 1, time)
    real = (times.expand(4, 2, 8) < heard * 32).flatten()
    assert torch.equal(encoder.token_mask(inputs)[0], real)
    tokens = encoder.tokens(inputs)[0]
    torch.testing.assert_close(encoder.features(inputs, 1)[0, 0], tokens[real].mean(dim=0), **EXACT)


def test_where_sound_lies_in_claps_folded_spectrogram(sound_folders):
    """A click moves the tokens of its own time most."""
    processor = tiny_watchers.processor("clap")
    processor.padding = "pad"
    backbone = load_directly("clap", sound_folders["clap"]).audio_model
    with torch.no_grad():
        for block in backbone.audio_encoder.layers[-1].blocks:  # no token looks at another any more
            block.attention.output.dense.weight.zero_()
    encoder = load_encoder(backbone, processor=processor)
    quiet = np.full(2 * RATE, 1e-4, np.float32)
    for time in (1, 13, 30):
        click = quiet.copy()
        click[time * 1000 + 300 : time * 1000 + 700] = 0.5  # a token is 1,000 samples wide
        still, moved = encoder.tokens(encoder.preprocess([quiet, click]))
        change = (moved - still).norm(dim=-1).unflatten(0, (4, 2, 8)).sum(dim=1).flatten()  # (32,)
        assert abs(int(change.argmax()) - time) <= 1


@every_family
def test_no_random_numbers(sound_folders, name):
    encoder = load_encoder(sound_folders[name])
    sounds = [sound(1, 4000), sound(2, 3 * RATE)]
    np.random.seed(0)
    features = perceived(encoder, sounds, 2)
    np.random.seed(1)
    assert torch.equal(perceived(encoder, sounds, 2), features)
    assert torch.equal(perceived(load_encoder(sound_folders[name]), sounds, 2), features)


@pytest.mark.parametrize("name", WINDOWS)
def test_of_a_long_sound_the_first_window(sound_folders, name):
    encoder = load_encoder(sound_folders[name])
    assert encoder.long_sounds == "first"
    assert encoder.window == full(name)
    long = sound(1, 3 * full(name))
    assert torch.equal(perceived(encoder, [long], 2), perceived(encoder, [long[: full(name)]], 2))


@pytest.mark.parametrize("name", [*WINDOWS, "hubert"])
def test_of_a_long_sound_all_windows(sound_folders, name, monkeypatch):
    monkeypatch.setattr("epalm.encoders.audio_families._SECONDS", 1)
    encoder = load_encoder(sound_folders[name], long_sounds="windows")
    window = encoder.window
    assert (encoder.token_count, encoder.most_tokens) == (None, None)
    long, short = sound(1, 2 * window + window // 4), sound(2, window // 2)
    pieces = [long[:window], long[window : 2 * window], long[2 * window :]]
    parts = perceived(encoder, pieces, 2)  # (3, K, E)
    expected = (parts * torch.tensor([1, 1, 0.25])[:, None, None]).sum(dim=0) / 2.25
    inputs = encoder.preprocess([short, long])
    assert inputs["lengths"].tolist() == [[window // 2, 0, 0], [window, window, window // 4]]
    torch.testing.assert_close(encoder.features(inputs, 2)[1], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(encoder.features(inputs, 2)[:1], perceived(encoder, [short], 2), **EXACT)
    tokens, mask = encoder.tokens(inputs), encoder.token_mask(inputs)
    assert tokens.shape[:2] == mask.shape
    steps = mask.shape[1] // 3
    assert not mask[0, steps:].any()
    assert not tokens[0, steps:].any()
    torch.testing.assert_close(tokens[1, :steps], encoder.tokens(encoder.preprocess(pieces[:1]))[0], **EXACT)
    brief, whole = encoder.every_token(inputs, 2).single()
    chained = torch.cat(encoder.every_token(encoder.preprocess(pieces), 2).single(), dim=1)
    torch.testing.assert_close(whole, chained, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(brief, encoder.every_token(encoder.preprocess([short]), 2).values[0], **EXACT)


def test_encoders_without_a_window_perceive_thirty_seconds(sound_folders):
    encoder = load_encoder(sound_folders["wav2vec2"])
    assert encoder.window == 30 * RATE
    assert encoder.preprocess([np.zeros(31 * RATE, np.float32)])["lengths"].tolist() == [[30 * RATE]]


@every_family
@pytest.mark.parametrize("samples", [1, 39, 399])
def test_very_short_sounds(sound_folders, name, samples, monkeypatch):
    monkeypatch.setattr("epalm.encoders.audio_families._SECONDS", 1)
    encoder = load_encoder(sound_folders[name], long_sounds="windows")
    short = sound(1, samples)
    together = perceived(encoder, [short, sound(2, 6000)], 2)
    assert together.isfinite().all()
    torch.testing.assert_close(together[:1], perceived(encoder, [short], 2), **EXACT)
    tail = perceived(encoder, [sound(3, encoder.window + samples)], 2)
    assert tail.isfinite().all()


@every_family
def test_silence_and_noise_as_loud_as_can_be(sound_folders, name):
    encoder = load_encoder(sound_folders[name])
    loud = np.where(np.arange(5000) % 7 < 3, 1, -1).astype(np.float32)
    assert perceived(encoder, [np.zeros(5000, np.float32), loud], 2).isfinite().all()


@every_family
def test_frozen_whatever_the_mode(sound_folders, name):
    encoder = load_encoder(sound_folders[name])
    inputs = encoder.preprocess([sound(1, 4000), sound(2, 5000)])
    features = encoder.features(inputs, 2)
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    for module in encoder.backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    torch.nn.ModuleList([encoder]).train()
    assert torch.equal(encoder.features(inputs, 2), features)
    assert not features.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.backbone.modules())
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())
    for module in encoder.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@every_family
def test_sixteen_bits(sound_folders, name):
    sounds = [sound(1, 4000), sound(2, 9000)]
    exact = perceived(load_encoder(sound_folders[name]), sounds, 2)
    half = perceived(load_encoder(sound_folders[name], dtype=torch.bfloat16), sounds, 2)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() < 0.1 * exact.norm()


@every_family
def test_a_live_module_and_shapes_without_weights(sound_folders, name):
    live = build(name)
    encoder = load_encoder(live, processor=tiny_watchers.processor(name))
    samples = [sound(1, 4000)]
    expected = perceived(load_encoder(sound_folders[name]), samples, 2)
    torch.testing.assert_close(perceived(encoder, samples, 2), expected, **EXACT)
    bare = load_encoder(live)
    assert (bare.rate, bare.window, bare.reading) == (None, None, {})
    with pytest.raises(ConfigError, match="built without a feature extractor"):
        bare.preprocess(samples)
    if name != "clap-fused":  # whose forward asks for values, and there are none
        bare = load_encoder(copy.deepcopy(live).to("meta"))
        assert (bare.width, bare.levels) == (WIDTH, PARTS[name][3])


def test_nothing_of_a_decoder_or_a_text_tower_is_kept(sound_folders, caplog):
    caplog.clear()
    whisper, clap = (load_encoder(sound_folders[name]).backbone for name in ("whisper", "clap"))
    assert not caplog.records
    assert type(whisper).__name__ == "WhisperEncoder"
    assert type(clap).__name__ == "ClapAudioModel"


def test_positions_alone_make_no_cls():
    """Whisper's are large beside what untrained layers make of a sound."""
    torch.manual_seed(0)
    whisper = transformers.WhisperModel(transformers.WhisperConfig(**tiny_watchers.WHISPER))
    assert load_encoder(whisper).anatomy.summary == "mean"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("whisper", lambda model: model.model),
        ("whisper", lambda model: model.model.encoder),
        ("clap", lambda model: model.audio_model),
        ("wav2vec2-stable", lambda model: model.wav2vec2),
    ],
)
def test_checkpoints_of_parts(sound_folders, tmp_path, name, taken):
    part = taken(load_directly(name, sound_folders[name]))
    part.save_pretrained(tmp_path)
    tiny_watchers.processor(name).save_pretrained(tmp_path)
    samples = [sound(1, 4000)]
    expected = perceived(load_encoder(sound_folders[name]), samples, 2)
    assert torch.equal(perceived(load_encoder(tmp_path), samples, 2), expected)
    live = load_encoder(part, processor=tiny_watchers.processor(name))
    assert torch.equal(perceived(live, samples, 2), expected)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("WhisperForAudioClassification", "whisper"),
        ("ClapAudioModelWithProjection", "clap"),
        ("ASTForAudioClassification", "ast"),
        ("HubertForCTC", "hubert"),
        ("Wav2Vec2ForPreTraining", "wav2vec2"),
    ],
)
def test_other_heads(tmp_path, model, config):
    torch.manual_seed(0)
    name, settings = AUDIO[config][1].replace("ClapConfig", "ClapAudioConfig"), AUDIO[config][2]
    whole = stir(getattr(transformers, model)(getattr(transformers, name)(**settings)))
    whole.save_pretrained(tmp_path)
    tiny_watchers.processor(config).save_pretrained(tmp_path)
    tower = {"whisper": "encoder", "clap": "audio_model"}.get(config, whole.base_model_prefix)
    samples = [sound(1, 4000)]
    expected = perceived(load_encoder(getattr(whole, tower), processor=tiny_watchers.processor(config)), samples, 2)
    for source in (tmp_path, whole):
        encoder = load_encoder(source, processor=tiny_watchers.processor(config))
        assert torch.equal(perceived(encoder, samples, 2), expected)


@pytest.mark.parametrize(
    ("name", "key"),
    [("whisper", "model.encoder.layers.1.fc1.weight"), ("clap", "audio_model.audio_encoder.norm.bias")],
)
def test_checkpoint_with_a_hole(sound_folders, tmp_path, name, key):
    folder = shutil.copytree(sound_folders[name], tmp_path, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights.pop(key)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="lacks 1 weights that its levels need"):
        load_encoder(folder)


def test_a_mask_vector_that_was_not_saved_is_the_same_at_every_load(sound_folders, tmp_path):
    folder = shutil.copytree(sound_folders["hubert"], tmp_path, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights.pop("masked_spec_embed")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    first, second = load_encoder(folder), load_encoder(folder)
    assert all(torch.equal(tensor, second.state_dict()[key]) for key, tensor in first.state_dict().items())
    samples = [sound(1, 4000)]
    assert torch.equal(perceived(first, samples, 2), perceived(load_encoder(sound_folders["hubert"]), samples, 2))


def test_extractor_of_another_length(sound_folders):
    wrong = transformers.ASTFeatureExtractor(max_length=96, num_mel_bins=32)
    with pytest.raises(UnsupportedModelError, match=r"does not accept input_values \(3, 96, 32\)"):
        load_encoder(sound_folders["ast"], processor=wrong)


def test_the_rate_is_the_extractors(sound_folders, tmp_path):
    folder = shutil.copytree(sound_folders["hubert"], tmp_path, dirs_exist_ok=True)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"sampling_rate": 24_000}))
    assert load_encoder(folder).reading["rate"] == 24_000


def test_models_of_sound_that_name_no_convolutions():
    config = transformers.Wav2Vec2BertConfig(**BODY, conv_depthwise_kernel_size=3, feature_projection_input_dim=8)
    with pytest.raises(UnsupportedModelError, match="names no `conv_kernel`"):
        load_encoder(transformers.Wav2Vec2BertModel(config))


def test_a_setting_nobody_knows(sound_folders):
    with pytest.raises(ConfigError, match="long_sounds: one of first, windows, not 'last'"):
        load_encoder(sound_folders["ast"], long_sounds="last")


BAD_SOUNDS = {
    "stereo": (np.zeros((2, 500), np.float32), r"float32 \(2, 500\)"),
    "a number": (np.float32(1), "but float32"),
    "integers": (np.zeros(500, np.int16), r"int16 \(500,\)"),
    "doubles": (np.zeros(500), r"float64 \(500,\)"),
    "empty": (np.zeros(0, np.float32), "holds no sample"),
    "not a number": (np.array([0, np.nan, 0], np.float32), "not finite numbers"),
    "endless": (np.array([0, np.inf, 0], np.float32), "not finite numbers"),
    "a path": ("a.wav", "but str"),
}


@pytest.mark.parametrize("kind", BAD_SOUNDS)
def test_anything_but_decoded_sounds_is_refused(sound_folders, kind):
    bad, reason = BAD_SOUNDS[kind]
    with pytest.raises(MediaError, match=f"^sound 1: .*{reason}") as caught:
        load_encoder(sound_folders["ast"]).preprocess([sound(1, 500), bad])
    assert "\n" not in str(caught.value)


def kaldi_fbank(samples: np.ndarray, bins: int) -> np.ndarray:
    """Kaldi's log-mel filter bank by its definition, slowly: (T, bins). 25 ms hanning frames every 10 ms, no dither."""
    size, hop, fft, low, high = 400, 160, 512, 20.0, 8000.0

    def mel(hertz):
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    edges = mel(low) + np.arange(bins + 2) * (mel(high) - mel(low)) / (bins + 1)
    pitches = mel(np.arange(fft // 2) * RATE / fft)  # the bin at half the rate belongs to no filter
    filters = np.zeros((bins, fft // 2))
    for i in range(bins):
        left, middle, right = edges[i : i + 3]
        rising, falling = (pitches - left) / (middle - left), (right - pitches) / (right - middle)
        filters[i] = np.maximum(0, np.minimum(rising, falling))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    rows = []
    for start in range(0, len(samples) - size + 1, hop):
        frame = samples[start : start + size].astype(np.float64)
        frame -= frame.mean()
        frame = np.append(frame[0] - 0.97 * frame[0], frame[1:] - 0.97 * frame[:-1])
        power = np.abs(np.fft.rfft(frame * window, fft))[: fft // 2] ** 2
        rows.append(np.log(np.maximum(filters @ power, np.finfo(np.float32).eps)))
    return np.array(rows)


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize("samples", [400, 559, 560, 16_000, 400 + 1023 * 160, 400 + 1023 * 160 - 1])
def test_asts_filter_bank_is_kaldis(samples):
    config = transformers.ASTConfig(**BODY)
    encoder = load_encoder(transformers.ASTModel(config), processor=transformers.ASTFeatureExtractor())
    wave = sound(5, samples)
    values = encoder.preprocess([wave])["input_values"]
    assert values.shape == (1, 1, 1024, 128)
    bank = kaldi_fbank(wave, 128)
    assert len(bank) == 1 + (samples - 400) // 160
    filled = np.zeros((1024, 128))
    filled[: len(bank)] = bank
    expected = (filled + 4.2677393) / (2 * 4.5689974)
    np.testing.assert_allclose(values[0, 0].numpy(), expected, rtol=0, atol=2e-4)


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
def test_ast_perceives_1024_frames_and_no_more():
    config = transformers.ASTConfig(**BODY)
    encoder = load_encoder(transformers.ASTModel(config), processor=transformers.ASTFeatureExtractor())
    assert encoder.window == 164_080
    long = sound(6, 200_000)
    full = encoder.preprocess([long[:164_080]])["input_values"]
    assert torch.equal(
        full, torch.from_numpy(encoder.processor(long, sampling_rate=RATE)["input_values"][0])[None, None]
    )


def test_from_files_of_others_to_features(sound_folders):
    files = sorted((SHARED / "esc10-mini" / "audio").glob("*"))[:3] if SHARED.is_dir() else []
    if not files:
        pytest.skip("shared data folder esc10-mini is not here")
    for extra in ("soundfile", "soxr"):
        pytest.importorskip(extra)
    for name in ("ast", "hubert"):
        encoder = load_encoder(sound_folders[name])
        features = perceived(encoder, [load_audio(file, **encoder.reading) for file in files], 3)
        assert features.shape == (3, 3, WIDTH)
        assert torch.cdist(features[:, -1], features[:, -1]).max() > 1e-3
