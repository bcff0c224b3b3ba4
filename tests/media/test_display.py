"""Frames have the shape, the way up and the colours in which a player displays them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered_clips import write
from PIL import Image

from epalm.media import load_video

av = pytest.importorskip("av", reason="PyAV is not installed")


def disc(width: int, height: int) -> np.ndarray:
    """White on black, as wide and high as the picture allows: (height, width, 3)."""
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.repeat(np.uint8(255) * (x**2 + y**2 < 1)[..., None], 3, axis=2)


def write_anamorphic(path: Path, aspect: Fraction, codec: str, size=(96, 64)) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(disc(*size), "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mpg", "mpeg2video"),
    ],
)
@pytest.mark.parametrize(("aspect", "shape"), [(Fraction(2, 3), (96, 96)), (Fraction(4, 3), (64, 128))])
def test_pixels_become_square(tmp_path, name, codec, aspect, shape):
    path = write_anamorphic(tmp_path / name, aspect, codec)
    with av.open(str(path)) as container:
        stored = container.streams.video[0].sample_aspect_ratio
    frames = load_video(path, 2)
    if codec == "mpeg2video":  # has but four shapes of the whole picture
        assert stored != aspect
        shape = (round(64 / stored), 96) if stored < 1 else (64, round(96 * stored))
    assert frames.shape == (2, *shape, 3)
    difference = np.abs(frames[0].astype(int) - disc(shape[1], shape[0]))
    assert difference.mean() < 12


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="a PyAV that writes no rotation")
def test_a_circle_is_a_circle_on_its_side(tmp_path):
    """An upright telephone, and 36 x 48 of its pixels stored as 72 x 48."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(1, 2)
        stream.set_display_rotation(90)
        picture = disc(72, 48) // 2
        picture[:16, :24] = (255, 0, 0)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    frame = load_video(path, 1)[0]
    assert frame.shape == (72, 96, 3)
    assert frame[-12:, :16].mean(axis=(0, 1)) == pytest.approx((255, 0, 0), abs=40)


@pytest.mark.parametrize(("orientation", "shown"), [(3, (-1, -1)), (6, (0, -1)), (8, (-1, 0)), (1, (0, 0))])
def test_a_frame_with_side_data_that_pyav_has_no_name_for(tmp_path, orientation, shown):
    """EXIF is such for now, and turns a still that is given as a film."""
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = orientation
    picture = Image.new("RGB", (64, 32))
    picture.paste((255, 0, 0), (0, 0, 16, 16))
    picture.save(path, exif=exif)
    with av.open(str(path)) as container:
        if orientation != 1 and not next(container.decode(video=0)).rotation:
            pytest.skip("an FFmpeg that does not read EXIF")
    frame = load_video(path, 1)[0]
    assert frame.shape == ((64, 32, 3) if orientation > 4 else (32, 64, 3))
    assert frame[shown] == pytest.approx((255, 0, 0), abs=30)


@pytest.mark.parametrize("aspect", [Fraction(1280, 1281), Fraction(1, 90)])
def test_pixels_that_are_nearly_square_or_absurd_stay(tmp_path, aspect):
    path = write_anamorphic(tmp_path / "a.mkv", aspect, "libx264")
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect
    assert load_video(path, 1).shape == (1, 64, 96, 3)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mov", "qtrle", "argb"), ("a.mkv", "ffv1", "yuva444p"), ("a.webm", "libvpx-vp9", "yuva420p")],
)
def test_what_is_clear_lies_on_white(tmp_path, name, codec, pix_fmt):
    path = tmp_path / name
    picture = np.zeros((32, 48, 4), np.uint8)  # opaque red, half of it, nothing, and opaque black
    picture[:16, :24], picture[:16, 24:], picture[16:, :24] = (255, 0, 0, 255), (255, 0, 0, 128), (0, 90, 255, 0)
    picture[16:, 24:, 3] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pix_fmt
        stream.metadata["alpha_mode"] = "1"  # of WebM alone
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgba").reformat(format=pix_fmt)))
        container.mux(stream.encode())
    frame = load_video(path, 1)[0].astype(int)
    expected = [[(255, 0, 0), (255, 127, 127)], [(255, 255, 255), (0, 0, 0)]]
    np.testing.assert_allclose(frame[8::16, 12::24], expected, atol=12 if pix_fmt == "yuva420p" else 4)


def test_a_film_that_changes_its_size(tmp_path):
    """All frames are of the size of the first, as in a window of a player."""
    parts = [
        write(tmp_path / f"{width}.ts", [np.full((32, width, 3), 50 + width, np.uint8)] * 25, options={"g": "25"})
        for width in (48, 96)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = load_video(path, 4)
    assert frames.shape == (4, 32, 48, 3)
    assert frames.mean(axis=(1, 2, 3)) == pytest.approx([98, 98, 146, 146], abs=4)
