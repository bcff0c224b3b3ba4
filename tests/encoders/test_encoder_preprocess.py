"""Pictures become inputs through the encoder's own processor, whatever their size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny_encoders import FAMILIES, SIZE, build

from epalm.encoders import load_encoder
from epalm.errors import ConfigError, MediaError
from epalm.media import load_image

every_family = pytest.mark.parametrize("name", FAMILIES)
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@every_family
def test_pictures_of_any_size_go_through_the_encoders_own_processor(folders, name):
    encoder = load_encoder(folders[name])
    pictures = [noise(64, 64), noise(50, 33), noise(7, 90), noise(1, 1)]
    inputs = encoder.preprocess(pictures)
    own = getattr(transformers, FAMILIES[name].processor).from_pretrained(folders[name])
    assert list(inputs) == ["pixel_values"]
    assert inputs["pixel_values"].shape == (4, 3, SIZE, SIZE)
    assert inputs["pixel_values"].dtype == torch.float32
    expected = torch.cat([own(images=picture, return_tensors="pt")["pixel_values"] for picture in pictures])
    assert torch.equal(inputs["pixel_values"], expected)
    assert encoder.features(inputs, 2).isfinite().all()


def test_statistics_and_size_come_from_the_processor_of_the_encoder(folders, tmp_path):
    for file in folders["vit"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    settings |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 1.0, 2.0]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    white = load_encoder(tmp_path).preprocess([Image.new("RGB", (5, 5), "white")])["pixel_values"]
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([0.9 / 0.5, 0.8, 0.7 / 2.0]))


def test_a_processor_written_for_torchvision_loads_without_it(folders, tmp_path):
    for file in folders["clip"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    for written in ("CLIPImageProcessorFast", "CLIPImageProcessor"):
        settings["image_processor_type"] = written
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
        assert type(load_encoder(tmp_path).processor).__name__ == "CLIPImageProcessorPil"


@every_family
def test_arrays_and_pictures_are_the_same(folders, name):
    encoder = load_encoder(folders[name])
    for picture in (noise(40, 30), noise(3, 3), noise(1, 4)):  # three by three does not say where its channels are
        of_array = encoder.preprocess([np.asarray(picture)])["pixel_values"]
        assert torch.equal(of_array, encoder.preprocess([picture])["pixel_values"])


@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000), (20_000, 1), (1, 20_000)])
@every_family
def test_very_long_pictures(folders, name, size):
    encoder = load_encoder(folders[name])
    picture = Image.new("RGB", size, (10, 120, 250))
    inputs = encoder.preprocess([picture])["pixel_values"]
    assert inputs.shape == (1, 3, SIZE, SIZE)
    torch.testing.assert_close(inputs, encoder.preprocess([picture.resize((50, 50))])["pixel_values"])


@pytest.mark.parametrize("name", ["clip", "dinov2"])
@pytest.mark.parametrize("size", [(3000, 10), (10, 3000), (2001, 12), (400, 1)])
def test_what_is_cut_off_a_long_picture_was_not_in_the_crop(folders, name, size):
    encoder = load_encoder(folders[name])
    width, height = size
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8)
    picture = Image.fromarray(
        np.broadcast_to(ramp[None, :, None] if width > height else ramp[:, None, None], (height, width, 3)).copy()
    )
    uncut = encoder.processor(images=picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.preprocess([picture])["pixel_values"], uncut, rtol=0, atol=0.02)
    sharp = noise(*size)
    if max(size) % 2 == min(size) % 2:  # then source and crop have one centre to the pixel
        uncut = encoder.processor(images=sharp, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(encoder.preprocess([sharp])["pixel_values"], uncut, rtol=0, atol=0.02)


@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000), (20_000, 1), (163, 10), (100, 100)])
def test_the_processor_is_not_given_ends_that_it_would_blow_up_and_throw_away(size):
    given = []

    class Watched(transformers.CLIPImageProcessorPil):
        def __call__(self, images, **settings):
            given.append(images[0].size)
            return super().__call__(images, **settings)

    processor = Watched(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    load_encoder(build("clip"), processor=processor).preprocess([Image.new("RGB", size)])
    long, short = max(given[-1]), min(given[-1])
    assert short == min(size)
    assert long in (min(max(size), 16 * short), 16 * short + 1)


def test_long_pictures_that_are_squeezed_are_not_cut(folders):
    encoder = load_encoder(folders["vit"])
    picture = Image.new("RGB", (3200, 10), "black")
    picture.paste((255, 255, 255), (0, 0, 800, 10))
    columns = encoder.preprocess([picture])["pixel_values"][0, 0].mean(dim=0)  # (SIZE,)
    torch.testing.assert_close(columns[:7], torch.ones(7))
    torch.testing.assert_close(columns[9:], -torch.ones(23))


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (Image.new("L", (4, 4)), "a L picture"),
        (Image.new("RGBA", (4, 4)), "a RGBA picture"),
        (np.zeros((4, 4), np.uint8), "ndarray"),
        (np.zeros((4, 4, 3), np.float32), "ndarray"),
        ("a.jpg", "str"),
    ],
)
def test_anything_but_decoded_pictures_is_refused(folders, picture, found):
    with pytest.raises(MediaError, match=f"picture 1: .* but {found}; use epalm.media.load_image"):
        load_encoder(folders["vit"]).preprocess([noise(4, 4), picture])


def test_a_processor_whose_pictures_differ_in_size(folders):
    uneven = transformers.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, do_center_crop=False)
    encoder = load_encoder(build("dinov2"), processor=uneven)
    with pytest.raises(ConfigError, match="cannot batch these pictures"):
        encoder.preprocess([noise(64, 64), noise(64, 128)])


def test_from_files_of_others_to_features(folders):
    files = sorted((SHARED / "flickr8k-mini" / "images").glob("*"))[:3] if SHARED.is_dir() else []
    if not files:
        pytest.skip("shared data folder flickr8k-mini is not here")
    encoder = load_encoder(folders["clip"])
    features = encoder.features(encoder.preprocess([load_image(file) for file in files]), 3)
    assert features.shape == (3, 3, encoder.width)
    assert torch.cdist(features[:, -1], features[:, -1]).max() > 1e-3
