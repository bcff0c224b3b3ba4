"""Clips -> features: TimeSformer, ViViT, VideoMAE, and encoders of pictures shown one frame after another."""

from __future__ import annotations

import copy
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny_watchers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_watchers import FRAMES, LEVELS, SIZE, VIDEO, WIDTH, block_outputs, build, clip, load_directly, save

from epalm.encoders import FrameEncoder, ImageEncoder, VideoEncoder, load_encoder
from epalm.errors import ConfigError, DataError, EpalmError, MediaError, UnsupportedModelError
from epalm.media import load_video

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

every_family = pytest.mark.parametrize("name", VIDEO)
# where the family's own class keeps its blocks and its final norm
PARTS = {
    "timesformer": ("encoder.layer", "layernorm"),
    "videomae": ("encoder.layer", "layernorm"),
    "videomae-mean": ("videomae.encoder.layer", "fc_norm"),
    "vivit": ("layers", "layernorm"),
}


@pytest.fixture(scope="module")
def clip_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in VIDEO}


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def direct(name: str, model: torch.nn.Module, pixels: torch.Tensor, levels: int) -> torch.Tensor:
    """What the definition says, of everything that the model gives: (B, K, E)."""
    blocks, norm = (PARTS[name][0], model.get_submodule(PARTS[name][1]))
    states = block_outputs(model, blocks, pixel_values=pixels)
    assert len(states) == LEVELS
    summaries = {
        "timesformer": lambda state: norm(state)[:, 0],
        "vivit": lambda state: norm(state)[:, 0],
        "videomae": lambda state: norm(state).mean(dim=1),
        "videomae-mean": lambda state: norm(state.mean(dim=1)),
    }
    return torch.stack([summaries[name](state) for state in states[-levels:]], dim=1)


@every_family
def test_features_are_normed_levels_of_the_model_called_directly(clip_folders, pixels, name):
    encoder, model = load_encoder(clip_folders[name]), load_directly(name, clip_folders[name])
    assert type(encoder) is VideoEncoder
    assert (encoder.modality, encoder.width, encoder.levels) == ("video", WIDTH, LEVELS)
    assert (encoder.frames, encoder.reading) == (FRAMES, {"frames": FRAMES})
    for levels in (1, 3, LEVELS):
        features = encoder.features({"pixel_values": pixels}, levels)
        assert features.shape == (3, levels, WIDTH)
        torch.testing.assert_close(features, direct(name, model, pixels, levels), rtol=1e-5, atol=1e-6)
    assert torch.cdist(features[0], features[0]).add(10 * torch.eye(LEVELS)).min() > 1e-3


@pytest.mark.parametrize("name", ["timesformer", "videomae", "vivit"])
def test_the_last_level_is_what_the_model_ends_in(clip_folders, pixels, name):
    last = load_encoder(clip_folders[name]).features({"pixel_values": pixels}, 1)[:, 0]
    with torch.no_grad():
        output = load_directly(name, clip_folders[name])(pixels, output_hidden_states=True)
    tokens = output.last_hidden_state
    expected = tokens.mean(dim=1) if name == "videomae" else tokens[:, 0]
    torch.testing.assert_close(last, expected, rtol=1e-5, atol=1e-6)
    assert len(output.hidden_states) == LEVELS + 1


def test_mean_pooled_videomae_ends_in_what_its_classifier_reads(clip_folders, pixels):
    model = load_directly("videomae-mean", clip_folders["videomae-mean"])
    last = load_encoder(clip_folders["videomae-mean"]).features({"pixel_values": pixels}, 1)[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(model.classifier(last), model(pixels).logits, rtol=1e-5, atol=1e-6)


@every_family
def test_a_batch_gives_what_its_members_give(clip_folders, name):
    encoder = load_encoder(clip_folders[name])
    clips = [clip(1), clip(2, 64, 33), clip(3, 35, 80)]
    together = encoder.features(encoder.preprocess(clips), 3)
    alone = torch.cat([encoder.features(encoder.preprocess([one]), 3) for one in clips])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@every_family
def test_clips_go_through_the_encoders_own_processor(clip_folders, name):
    encoder = load_encoder(clip_folders[name])
    own = tiny_watchers.processor(name)
    clips = [clip(1), clip(2, 33, 64)]
    inputs = encoder.preprocess(clips)
    assert list(inputs) == list(encoder.input_names) == ["pixel_values"]
    assert inputs["pixel_values"].shape == (2, FRAMES, 3, SIZE, SIZE)
    expected = torch.cat([own(list(frames), return_tensors="pt")["pixel_values"] for frames in clips])
    assert torch.equal(inputs["pixel_values"], expected)


@every_family
def test_every_token_of_every_level(clip_folders, pixels, name):
    encoder, inputs = load_encoder(clip_folders[name]), {"pixel_values": pixels}
    every = encoder.every_token(inputs, 3).values
    assert (encoder.special_tokens, encoder.grid) == (0 if name.startswith("videomae") else 1, None)
    assert every.shape == (3, 3, encoder.token_count, WIDTH)
    assert torch.equal(every[:, -1], encoder.tokens(inputs))
    if name != "videomae-mean":  # which norms the mean
        summary = every.mean(dim=2) if name == "videomae" else every[:, :, 0]
        torch.testing.assert_close(summary, encoder.features(inputs, 3))


def test_every_token_of_pictures_shown_frame_by_frame(folders):
    encoder = load_encoder(folders["vit"], modality="video", frames=3)
    inputs = encoder.preprocess([clip(1, frames=3), clip(2, frames=3)])
    every = encoder.every_token(inputs, 2).values
    assert (encoder.special_tokens, encoder.grid) == (1, None)
    assert every.shape == (2, 2, 3 * 17, WIDTH)
    assert encoder.token_count == 3 * 17
    assert torch.equal(every[:, -1], encoder.tokens(inputs))
    torch.testing.assert_close(every.unflatten(2, (3, -1))[:, :, :, 0].mean(dim=2), encoder.features(inputs, 2))


def test_statistics_come_from_the_processor_of_the_encoder(clip_folders):
    white = np.full((FRAMES, 40, 40, 3), 255, np.uint8)
    pixels = load_encoder(clip_folders["timesformer"]).preprocess([white])["pixel_values"]
    mean, std = (torch.tensor(tiny_watchers.STATISTICS[key]) for key in ("image_mean", "image_std"))
    torch.testing.assert_close(pixels[0, 2, :, 0, 0], (1 - mean) / std)


@pytest.mark.parametrize(
    ("name", "key", "written"),
    [
        ("timesformer", "feature_extractor_type", "VideoMAEFeatureExtractor"),
        ("timesformer", "image_processor_type", "VideoMAEImageProcessor"),
        ("videomae", "video_processor_type", "VideoMAEVideoProcessor"),
        ("vivit", "image_processor_type", "VivitImageProcessor"),
        ("vivit", "feature_extractor_type", "VivitFeatureExtractor"),
    ],
)
def test_processors_as_they_lie_on_the_hub(clip_folders, tmp_path, name, key, written):
    folder = shutil.copytree(clip_folders[name], tmp_path, dirs_exist_ok=True)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    for other in ("image_processor_type", "feature_extractor_type"):
        settings.pop(other, None)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {key: written}))
    expected = load_encoder(clip_folders[name]).preprocess([clip(1)])["pixel_values"]
    assert torch.equal(load_encoder(folder).preprocess([clip(1)])["pixel_values"], expected)


@every_family
def test_weights_of_more_layers_than_the_settings_say(clip_folders, tmp_path, name):
    shutil.copytree(clip_folders[name], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"num_hidden_layers": LEVELS - 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=f"has {LEVELS - 1} layers, its weights have more"):
        load_encoder(tmp_path)


@every_family
def test_the_order_of_frames_matters(clip_folders, name):
    encoder, forward = load_encoder(clip_folders[name]), clip(1)
    one, other = encoder.features(encoder.preprocess([forward, forward[::-1].copy()]), 1)
    assert (one - other).norm() > 1e-3 * one.norm()


def test_clips_of_another_length_are_refused(clip_folders):
    encoder = load_encoder(clip_folders["timesformer"])
    with pytest.raises(DataError, match=rf"pixel_values: expected \(B, {FRAMES}, C, H, W\), got \(1, 2,"):
        encoder.features({"pixel_values": torch.zeros(1, 2, 3, SIZE, SIZE)}, 1)


def test_one_backbone_serves_clips_of_two_lengths(clip_folders):
    backbone = load_encoder(clip_folders["timesformer"]).backbone
    processor = load_encoder(clip_folders["timesformer"]).processor
    short, long = (load_encoder(backbone, processor=processor, frames=n) for n in (FRAMES, 2 * FRAMES))
    for encoder, frames in ((short, FRAMES), (long, 2 * FRAMES), (short, FRAMES)):
        inputs = encoder.preprocess([clip(1, frames=frames)])
        alone = load_encoder(clip_folders["timesformer"], frames=frames)
        assert torch.equal(encoder.features(inputs, 2), alone.features(inputs, 2))


def test_one_backbone_serves_clips_of_two_lengths_in_two_threads(clip_folders):
    whole = load_encoder(clip_folders["timesformer"])
    encoders = [load_encoder(whole.backbone, processor=whole.processor, frames=n) for n in (FRAMES, 2 * FRAMES)]
    inputs = [encoder.preprocess([clip(1, frames=encoder.frames)]) for encoder in encoders]
    expected = [encoder.features(each, 2) for encoder, each in zip(encoders, inputs, strict=True)]
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(encoders[i % 2].features, inputs[i % 2], 2) for i in range(40)]
    assert all(torch.equal(call.result(), expected[i % 2]) for i, call in enumerate(calls))


def test_timesformer_takes_any_number_of_frames(clip_folders):
    encoder = load_encoder(clip_folders["timesformer"], frames=2 * FRAMES)
    assert encoder.frames == 2 * FRAMES
    inputs = encoder.preprocess([clip(1, frames=2 * FRAMES), clip(2, frames=2 * FRAMES)])
    model = load_directly("timesformer", clip_folders["timesformer"])
    model.config.num_frames = 2 * FRAMES
    torch.testing.assert_close(
        encoder.features(inputs, 3), direct("timesformer", model, inputs["pixel_values"], 3), rtol=1e-5, atol=1e-6
    )
    assert (
        load_encoder(clip_folders["timesformer"], frames=1).preprocess([clip(1, frames=1)])["pixel_values"].shape[1]
        == 1
    )


@pytest.mark.parametrize("name", ["videomae", "videomae-mean", "vivit"])
def test_others_take_their_own_number_alone(clip_folders, name):
    assert load_encoder(clip_folders[name], frames=FRAMES).frames == FRAMES
    with pytest.raises(ConfigError, match=f"takes {FRAMES} frames and no other number, 8 were asked for"):
        load_encoder(clip_folders[name], frames=8)


@pytest.mark.parametrize("frames", [0, -1])
def test_no_frames(clip_folders, folders, frames):
    for source in (clip_folders["timesformer"], folders["vit"]):
        with pytest.raises(ConfigError, match=f"frames: at least 1 is needed, got {frames}"):
            load_encoder(source, modality="video", frames=frames)


@every_family
def test_frozen_whatever_the_mode(clip_folders, pixels, name):
    encoder = load_encoder(clip_folders[name])
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    features = encoder.features({"pixel_values": pixels}, 2)
    for module in encoder.backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    torch.nn.ModuleList([encoder]).train()
    assert torch.equal(encoder.features({"pixel_values": pixels}, 2), features)
    assert not features.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.backbone.modules())
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())


@every_family
def test_a_live_module_and_shapes_without_weights(clip_folders, pixels, name):
    live = build(name)
    encoder = load_encoder(live)
    assert encoder.backbone is live
    expected = load_encoder(clip_folders[name]).features({"pixel_values": pixels}, 2)
    torch.testing.assert_close(encoder.features({"pixel_values": pixels}, 2), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="built without an image processor"):
        encoder.preprocess([clip(1)])
    bare = load_encoder(copy.deepcopy(live).to("meta"))
    assert (bare.width, bare.levels, bare.frames) == (WIDTH, LEVELS, FRAMES)


@pytest.mark.parametrize("name", ["timesformer", "videomae", "vivit"])
def test_a_classifiers_checkpoint_is_read_below_its_head(tmp_path, pixels, name):
    model, config, settings = VIDEO[name]
    torch.manual_seed(0)
    config = getattr(transformers, config)(**settings)
    classifier = getattr(transformers, model.replace("Model", "ForVideoClassification"))(config).eval()
    classifier.save_pretrained(tmp_path)
    tiny_watchers.processor(name).save_pretrained(tmp_path)
    expected = direct(name, classifier.base_model, pixels, 2)
    for source in (tmp_path, classifier):
        found = load_encoder(source).features({"pixel_values": pixels}, 2)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_videomae_saved_without_the_part_that_holds_its_norm(clip_folders, tmp_path, pixels):
    whole = load_directly("videomae-mean", clip_folders["videomae-mean"])
    whole.videomae.save_pretrained(tmp_path)
    tiny_watchers.processor("videomae-mean").save_pretrained(tmp_path)
    states = block_outputs(whole, "videomae.encoder.layer", pixel_values=pixels)
    expected = torch.stack([state.mean(dim=1) for state in states[-2:]], dim=1)
    for source in (tmp_path, whole.videomae):
        found = load_encoder(source).features({"pixel_values": pixels}, 2)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_checkpoint_with_a_hole(clip_folders, tmp_path):
    folder = shutil.copytree(clip_folders["timesformer"], tmp_path, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.time_embeddings")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="lacks 1 weights that its levels need"):
        load_encoder(folder)


BAD_CLIPS = {
    "a picture": (np.zeros((8, 8, 3), np.uint8), r"uint8 \(8, 8, 3\)"),
    "of floats": (np.zeros((FRAMES, 8, 8, 3), np.float32), "float32"),
    "not a number": (np.full((FRAMES, 8, 8, 3), np.nan), "float64"),
    "grey": (np.zeros((FRAMES, 8, 8), np.uint8), r"uint8 \(4, 8, 8\)"),
    "channels first": (np.zeros((FRAMES, 3, 8, 8), np.uint8), r"\(4, 3, 8, 8\)"),
    "short": (np.zeros((FRAMES - 1, 8, 8, 3), np.uint8), r"expected 4 frames, got \(3, 8, 8, 3\)"),
    "empty": (np.zeros((FRAMES, 0, 8, 3), np.uint8), r"got \(4, 0, 8, 3\)"),
    "a path": ("a.mp4", "but str"),
}


@pytest.mark.parametrize("kind", BAD_CLIPS)
def test_anything_but_decoded_clips_is_refused(clip_folders, folders, kind):
    bad, reason = BAD_CLIPS[kind]
    for encoder in (
        load_encoder(clip_folders["timesformer"]),
        load_encoder(folders["vit"], modality="video", frames=FRAMES),
    ):
        with pytest.raises(MediaError, match=f"^clip 1: .*{reason}") as caught:
            encoder.preprocess([clip(1), bad])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vit", "siglip", "beit-mean"])
def test_an_encoder_of_pictures_is_shown_every_frame(folders, name):
    encoder, image = load_encoder(folders[name], modality="video", frames=3), load_encoder(folders[name])
    assert isinstance(encoder, FrameEncoder)
    assert (encoder.modality, encoder.frames, encoder.reading) == ("video", 3, {"frames": 3})
    assert (encoder.width, encoder.levels, encoder.source) == (image.width, image.levels, image.source)
    clips = [clip(seed, 40, 50, frames=3) for seed in range(2)]
    inputs = encoder.preprocess(clips)
    assert inputs["pixel_values"].shape[:2] == (2, 3)
    expected = torch.stack([image.features(image.preprocess(list(one)), 2).mean(dim=0) for one in clips])
    torch.testing.assert_close(encoder.features(inputs, 2), expected, rtol=1e-5, atol=1e-6)
    shuffled = encoder.features(encoder.preprocess([one[[2, 0, 1]] for one in clips]), 2)
    torch.testing.assert_close(shuffled, expected, rtol=1e-5, atol=1e-6)
    tokens = encoder.tokens(inputs)
    torch.testing.assert_close(
        tokens[1], image.tokens(image.preprocess(list(clips[1]))).flatten(0, 1), rtol=1e-5, atol=1e-6
    )


def test_an_encoder_of_frames_has_its_weights_once_and_they_move_with_it(folders):
    encoder, image = load_encoder(folders["vit"], modality="video"), load_encoder(folders["vit"])
    assert encoder.frames == 8
    assert set(encoder.state_dict()) == set(image.state_dict())
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in image.parameters())
    twin = copy.deepcopy(encoder).double()
    assert twin.image.backbone is twin.backbone
    inputs = encoder.preprocess([clip(1, frames=8)])
    assert twin.features(inputs, 2).dtype == torch.float64
    torch.testing.assert_close(twin.features(inputs, 2).float(), encoder.features(inputs, 2), rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in encoder.train().backbone.modules())


def test_settings_that_do_not_fit(folders, clip_folders):
    assert type(load_encoder(folders["vit"], modality="image")) is ImageEncoder
    for settings, source, reason in [
        ({"frames": 4}, folders["vit"], "frames: .* perceives image; only clips have frames"),
        ({"long_sounds": "first"}, clip_folders["vivit"], "long_sounds: .* perceives video, not sounds"),
        ({"modality": "image"}, clip_folders["vivit"], "perceives video, not image"),
        ({"modality": "audio"}, folders["vit"], "perceives image, not audio"),
        ({"modality": "smell"}, folders["vit"], "perceives image, not smell"),
    ]:
        with pytest.raises(EpalmError, match=reason):
            load_encoder(source, **settings)


def test_attention_that_leaves_frames_apart_is_refused():
    torch.manual_seed(0)
    config = transformers.TimesformerConfig(**VIDEO["timesformer"][2], attention_type="space_only")
    with pytest.raises(UnsupportedModelError, match="do not pass tokens"):
        load_encoder(transformers.TimesformerModel(config))


def test_from_files_of_others_to_features(clip_folders, folders):
    files = sorted((SHARED / "audiocaps-mini" / "media").glob("*.mp4"))[:2] if SHARED.is_dir() else []
    if not files:
        pytest.skip("shared data folder audiocaps-mini is not here")
    pytest.importorskip("av")
    for encoder in (load_encoder(clip_folders["timesformer"]), load_encoder(folders["clip"], modality="video")):
        clips = [load_video(file, **encoder.reading) for file in files]
        features = encoder.features(encoder.preprocess(clips), 3)
        assert features.shape == (2, 3, encoder.width)
        assert (features[0] - features[1]).norm() > 1e-3
