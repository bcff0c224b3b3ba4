"""Pictures as people have them become one upright RGB picture, or one line."""

from __future__ import annotations

import io
import struct
import sys
import types
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import BmpImagePlugin, Image, PngImagePlugin, TiffImagePlugin

from epalm.errors import MediaError
from epalm.media import load_image

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
UPRIGHT = np.array([[RED, GREEN], [BLUE, BLUE], [WHITE, (0, 0, 0)]], np.uint8)  # (3, 2, 3): no two turns of it agree


@pytest.fixture(autouse=True)
def _no_warning_leaks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pixels(source) -> np.ndarray:
    picture = load_image(source)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def refusal(source) -> str:
    with pytest.raises(MediaError) as caught:
        load_image(source)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__suppress_context__
    return message


def stored(path: Path, attribute: str):
    """What Pillow says of the file: that the test indeed made the case it is about."""
    with Image.open(path) as image:
        return getattr(image, attribute)


def blocks(colours: np.ndarray, side: int = 8) -> Image.Image:
    """Each colour a block of a JPEG's own size, so that compression leaves it as it is."""
    return Image.fromarray(colours.repeat(side, axis=0).repeat(side, axis=1))


def test_path_text_file_object_and_picture_are_the_same(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(UPRIGHT).save(path)
    with path.open("rb") as file, Image.open(path) as opened:
        for source in (path, str(path), file, io.BytesIO(path.read_bytes()), opened):
            np.testing.assert_array_equal(pixels(source), UPRIGHT)
    picture = load_image(path)
    path.unlink()
    np.testing.assert_array_equal(np.asarray(picture), UPRIGHT)  # decoded, not waiting for its file
    np.testing.assert_array_equal(pixels(picture), UPRIGHT)


def test_a_pipe_and_a_picture_that_begins_amid_another_file():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *arguments):
            raise OSError("a pipe")

    content = io.BytesIO()
    Image.fromarray(UPRIGHT).save(content, "PNG")
    np.testing.assert_array_equal(pixels(Pipe(content.getvalue())), UPRIGHT)
    inside = io.BytesIO(b"something else" + content.getvalue())
    inside.seek(14)
    np.testing.assert_array_equal(pixels(inside), UPRIGHT)


def test_greyscale_and_one_bit(tmp_path):
    grey = np.array([[0, 100, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png"), np.stack([grey] * 3, axis=-1))
    Image.fromarray(grey).convert("1", dither=Image.Dither.NONE).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(pixels(tmp_path / "bit.png")[0, :, 1], [0, 0, 255])


@pytest.mark.parametrize("file", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, file):
    wide = np.array([[0, 255, 1000, 32768, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / file)
    np.testing.assert_array_equal(pixels(tmp_path / file)[0, :, 0], [0, 1, 4, 128, 255])


def test_sixteen_bits_big_endian_and_in_32(tmp_path):
    wide = np.array([[0, 1000, 65535]], np.uint16)
    swapped = Image.frombytes("I;16B", (3, 1), wide.astype(">u2").tobytes())
    np.testing.assert_array_equal(pixels(swapped)[0, :, 0], [0, 4, 255])
    Image.fromarray(wide.astype(np.int32)).save(tmp_path / "a.tif")
    assert stored(tmp_path / "a.tif", "mode") == "I"
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0, :, 0], [0, 4, 255])


@pytest.mark.parametrize(("values", "expected"), [([0, 0.5, 1], [0, 128, 255]), ([0, 99.6, 255], [0, 100, 255])])
def test_floats_of_an_agreed_range(tmp_path, values, expected):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    assert stored(tmp_path / "a.tif", "mode") == "F"
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0, :, 2], expected)


@pytest.mark.parametrize("values", [[-3.0, 1], [0, 1e6], [0, np.nan], [0, np.inf]])
def test_floats_without_an_agreed_white(tmp_path, values):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    message = refusal(tmp_path / "a.tif")
    assert message.startswith(f"{tmp_path / 'a.tif'}: its greys run from ")
    assert "0 to 1 or 0 to 255" in message


def test_integers_without_an_agreed_white():
    assert "0 to 65535" in refusal(Image.fromarray(np.array([[0, 70000]], np.int32)))


def test_palette(tmp_path):
    Image.fromarray(UPRIGHT).quantize(5).save(tmp_path / "a.png")
    assert stored(tmp_path / "a.png", "mode") == "P"
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), UPRIGHT)


def test_palette_with_one_clear_colour_and_with_half_clear_ones(tmp_path):
    picture = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.save(tmp_path / "one.png", transparency=1)
    np.testing.assert_array_equal(pixels(tmp_path / "one.png")[0], [RED, WHITE, BLUE])
    picture.save(tmp_path / "many.png", transparency=bytes([255, 0, 128]))
    np.testing.assert_allclose(pixels(tmp_path / "many.png")[0].astype(int), [RED, WHITE, (127, 127, 255)], atol=1)
    picture.save(tmp_path / "one.gif", transparency=1)
    np.testing.assert_array_equal(pixels(tmp_path / "one.gif")[0], [RED, WHITE, BLUE])


def test_alpha_lies_on_white(tmp_path):
    colours = np.array([[(*RED, 255), (*RED, 0), (*RED, 51)]], np.uint8)
    for file in ("a.png", "a.tif", "a.webp"):
        Image.fromarray(colours).save(
            tmp_path / file, **({"lossless": True, "exact": True} if file == "a.webp" else {})
        )
        np.testing.assert_allclose(pixels(tmp_path / file)[0].astype(int), [RED, WHITE, (255, 204, 204)], atol=1)
    greys = Image.merge("LA", [Image.new("L", (1, 1), 0), Image.new("L", (1, 1), 0)])
    greys.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png"), [[WHITE]])


@pytest.mark.parametrize(("mode", "colour", "clear"), [("RGB", RED, RED), ("L", 7, 7)])
def test_one_clear_colour_without_a_palette(tmp_path, mode, colour, clear):
    Image.new(mode, (2, 2), colour).save(tmp_path / "a.png", transparency=clear)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.full((2, 2, 3), 255))


def test_cmyk(tmp_path):
    inks = Image.merge("CMYK", [Image.new("L", (8, 8), ink) for ink in (0, 255, 255, 0)])
    for file in ("a.jpg", "a.tif"):
        inks.save(tmp_path / file)
        assert stored(tmp_path / file, "mode") == "CMYK"
        np.testing.assert_allclose(pixels(tmp_path / file).mean(axis=(0, 1)), RED, atol=4)


@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_rotation(tmp_path, file, orientation):
    written = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](UPRIGHT)  # as a camera that was held so writes it
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks(np.ascontiguousarray(written)).save(
        tmp_path / file, exif=exif, **({"quality": 100} if file != "a.png" else {})
    )
    expected = np.asarray(blocks(UPRIGHT)).astype(int)
    once = load_image(tmp_path / file)
    assert (
        np.abs(np.asarray(once).astype(int) - expected).mean() < 8
    )  # colours are subsampled; a wrong turn is off by 80
    np.testing.assert_array_equal(pixels(once), np.asarray(once))  # not turned a second time
    with Image.open(tmp_path / file) as opened:
        np.testing.assert_array_equal(pixels(opened), np.asarray(once))


def test_rotation_of_a_picture_with_a_clear_colour(tmp_path):
    picture = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    picture.putpalette([*RED, *GREEN, *BLUE])
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.save(tmp_path / "a.png", transparency=0, exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png")[0], [BLUE, GREEN, WHITE])


def test_damaged_exif_leaves_the_picture(tmp_path):
    blocks(UPRIGHT).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert pixels(tmp_path / "a.jpg").shape == (24, 16, 3)


@pytest.mark.parametrize("file", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_frame_of_several(tmp_path, file):
    frames = [Image.new("RGB", (9, 7), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / file, save_all=True, append_images=frames[1:])
    assert stored(tmp_path / file, "n_frames") == 3
    np.testing.assert_allclose(pixels(tmp_path / file).mean(axis=(0, 1)), RED, atol=4)


def write_png(path: Path, kind: bytes, pixels: bytes, clear: bytes, width: int) -> None:
    """One row of pixels; `kind` is the depth in bits and the kind of colours."""
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        PngImagePlugin.putchunk(file, b"IHDR", struct.pack(">II", width, 1) + kind + b"\0\0\0")
        PngImagePlugin.putchunk(file, b"tRNS", clear)
        PngImagePlugin.putchunk(file, b"IDAT", zlib.compress(b"\0" + pixels))
        PngImagePlugin.putchunk(file, b"IEND", b"")


def test_clear_colours_of_other_depths_than_8_bits(tmp_path):
    """Which Pillow neither writes nor scales to the depth that it gives."""
    path = tmp_path / "a.png"
    write_png(path, b"\x10\0", struct.pack(">4H", 0, 65535, 32768, 300), struct.pack(">H", 300), 4)
    np.testing.assert_array_equal(pixels(path)[0, :, 0], [0, 255, 128, 255])
    write_png(path, b"\x10\2", struct.pack(">6H", 65535, 256, 0, 0, 0, 0), struct.pack(">3H", 65535, 256, 0), 2)
    np.testing.assert_array_equal(pixels(path)[0], [WHITE, (0, 0, 0)])
    write_png(path, b"\2\0", bytes([0b00011011]), struct.pack(">H", 0), 4)
    np.testing.assert_array_equal(pixels(path)[0, :, 0], [255, 85, 170, 255])
    write_png(path, b"\4\0", bytes([0x05, 0xAF]), struct.pack(">H", 5), 4)
    np.testing.assert_array_equal(pixels(path)[0, :, 0], [0, 255, 170, 255])
    write_png(path, b"\1\0", bytes([0b01000000]), struct.pack(">H", 0), 2)
    np.testing.assert_array_equal(pixels(path)[0, :, 0], [255, 255])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiffs_in_which_white_is_zero(tmp_path, kind):
    greys = np.array([[0, 255]], kind) * (257 if kind is np.uint16 else 1)
    Image.fromarray(greys.astype(kind)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    data = (tmp_path / "a.tif").read_bytes()
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[262] == 0
    assert greys.astype(kind).tobytes() in data or kind is np.uint8  # Pillow writes those of 8 bits inverted
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0, :, 0], [255, 0] if kind is np.uint16 else [0, 255])


def test_a_preview_is_not_the_picture(tmp_path):
    preview, picture = Image.new("RGB", (8, 8), RED), Image.new("RGB", (32, 24), BLUE)
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "a.tif") as file:
        preview.save(file, "TIFF", tiffinfo={254: 1})
        file.newFrame()
        picture.save(file, "TIFF")
    with Image.open(tmp_path / "a.tif") as image:
        assert (image.size, image.tag_v2[254]) == ((8, 8), 1)
    found = load_image(tmp_path / "a.tif")
    assert found.size == (32, 24)
    assert found.getpixel((0, 0)) == BLUE


def test_the_preview_of_a_raw_photograph_is_refused(tmp_path):
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.dng", "TIFF", tiffinfo={254: 1, 330: 8})
    message = refusal(tmp_path / "a.dng")
    assert message.startswith(
        f"{tmp_path / 'a.dng'}: a camera's raw file, of which only a small preview can be read here"
    )
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.tif", tiffinfo={254: 1})
    assert load_image(tmp_path / "a.tif").size == (8, 8)


def profile_of_inks() -> bytes:
    """An ICC profile by which magenta with yellow is a grey, black is black, and all else is white."""
    curves = bytes(range(256))
    grid = b"".join(bytes([0 if corner % 2 else 128 if corner == 6 else 255, 128, 128]) for corner in range(16))
    identity = struct.pack(">9I", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * curves + grid + 3 * curves
    size = 128 + 4 + 12 + len(table)
    head = struct.pack(">I4xI4s4s4s", size, 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_inks_have_the_colours_of_their_own_profile(tmp_path):
    inks = Image.merge("CMYK", [Image.frombytes("L", (2, 1), bytes([0, ink])) for ink in (0, 255, 255, 0)])
    inks.save(tmp_path / "a.tif", icc_profile=profile_of_inks())
    np.testing.assert_allclose(pixels(tmp_path / "a.tif")[0].astype(int), [WHITE, (119, 119, 119)], atol=3)
    inks.save(tmp_path / "b.tif", icc_profile=b"damaged")
    np.testing.assert_array_equal(pixels(tmp_path / "b.tif")[0], [WHITE, RED])


def heic(picture: Image.Image) -> bytes:
    """The head of one, and behind it a picture that `pillow_heif` below can read."""
    content = io.BytesIO()
    picture.save(content, "BMP")
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + content.getvalue()


def test_heic_names_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(heic(Image.fromarray(UPRIGHT)))
    remedy = "a HEIC picture; pip install pillow-heif, which reads them, or save it as JPEG or PNG"
    assert refusal(tmp_path / "a.heic") == f"{tmp_path / 'a.heic'}: {remedy}"


def test_heic_is_read_with_its_package(tmp_path, monkeypatch):
    class Reader(BmpImagePlugin.BmpImageFile):
        format = "HEIF"

        def _open(self):
            self.fp.seek(24)
            self.fp = io.BytesIO(self.fp.read())
            super()._open()

    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_open("HEIF", Reader, lambda head: head[4:12] == b"ftypheic")
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    (tmp_path / "a.heic").write_bytes(heic(Image.fromarray(UPRIGHT)))
    np.testing.assert_array_equal(pixels(tmp_path / "a.heic"), UPRIGHT)
    with (tmp_path / "a.heic").open("rb") as file:
        np.testing.assert_array_equal(pixels(file), UPRIGHT)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000)])
@pytest.mark.parametrize("file", ["a.png", "a.jpg", "a.gif"])
def test_odd_sizes(tmp_path, size, file):
    Image.new("RGB", size, BLUE).save(tmp_path / file)
    assert load_image(tmp_path / file).size == size


def test_a_picture_of_the_caller_is_left_as_it_is():
    picture = Image.fromarray(UPRIGHT)
    picture.getexif()[0x0112] = 6
    turned = load_image(picture)
    assert turned.size == (3, 2)
    assert picture.size == (2, 3)
    assert picture.getexif()[0x0112] == 6


def test_missing_directory_and_empty(tmp_path):
    assert refusal(tmp_path / "no.jpg") == f"{tmp_path / 'no.jpg'}: no such file"
    assert refusal(str(tmp_path)) == f"{tmp_path}: is a directory, not a picture"
    (tmp_path / "empty.jpg").touch()
    assert refusal(tmp_path / "empty.jpg") == f"{tmp_path / 'empty.jpg'}: the file is empty"
    assert refusal(io.BytesIO()) == "<BytesIO>: the file is empty"


def test_a_file_that_git_lfs_has_not_fetched(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    path = tmp_path / "a.jpg"
    path.write_bytes(pointer)
    expected = "is a pointer of Git LFS and not the file itself; fetch it with `git lfs pull`"
    assert refusal(path) == f"{path}: {expected}"
    assert refusal(io.BytesIO(pointer)) == f"<BytesIO>: {expected}"


def test_no_picture_at_all(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture\n")
    unknown = "not a picture, or not in a format that can be read here; save it as JPEG or PNG"
    assert refusal(path) == f"{path}: {unknown}"
    Image.new("RGB", (9, 9)).save(tmp_path / "a.eps")
    assert "PostScript" in refusal(tmp_path / "a.eps")


@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.bmp"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_cut_short(tmp_path, file, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / file
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal(path).startswith(f"{path}: ")
    with path.open("rb") as file_object:
        assert refusal(file_object).startswith(f"{path}: ")


def test_whatever_byte_is_wrong_there_is_a_picture_or_one_line():
    exif = Image.Exif()
    exif[0x0112] = 6
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    refusals = []
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        buffer = io.BytesIO()
        noise.save(buffer, kind, exif=exif)
        for _ in range(40):
            content = bytearray(buffer.getvalue())
            for place in random.integers(0, len(content), 6):
                content[place] = random.integers(256)
            try:
                assert load_image(io.BytesIO(bytes(content))).mode == "RGB"
            except MediaError as error:
                refusals.append(str(error))
    assert len(refusals) > 20
    assert not any("\n" in message for message in refusals)


def test_decompression_bomb(tmp_path):
    header = b"".join([(1_000_000).to_bytes(4, "big"), (1_000_000).to_bytes(4, "big"), b"\x08\x02\x00\x00\x00"])
    with (tmp_path / "bomb.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        PngImagePlugin.putchunk(file, b"IHDR", header)
        PngImagePlugin.putchunk(file, b"IDAT", b"")
        PngImagePlugin.putchunk(file, b"IEND", b"")
    assert refusal(tmp_path / "bomb.png").startswith(f"{tmp_path / 'bomb.png'}: too large to be decoded safely: ")


def test_a_large_picture_is_no_bomb(tmp_path, monkeypatch):
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 1,200 pixels: Pillow warns, which must stay inside
    assert load_image(tmp_path / "a.png").size == (40, 30)


@pytest.mark.parametrize("folder", ["flickr8k-mini", "daquar-mini", "easy-vqa"])
def test_pictures_made_by_others(folder):
    files = sorted((SHARED / folder / "images").glob("*"))[:5] if SHARED.is_dir() else []
    if not files:
        pytest.skip(f"shared data folder {folder} is not here")
    for file in files:
        assert pixels(file).std() > 0
