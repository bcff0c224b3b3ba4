"""Pictures as they come -> one upright RGB picture of 8 bits a channel.

What a viewer shows is what the encoder gets: the EXIF rotation is applied, an animation gives its first frame, and
transparency is laid on white, because drawings and logos cut out of their page are made to be seen on a light one. Inks
(CMYK) become the colours that the picture's own profile gives them; RGB is taken for sRGB, whatever profile it has.
"""

from __future__ import annotations

import io
import warnings
from importlib import import_module
from os import PathLike
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from epalm.errors import MediaError
from epalm.media.files import FileSource, FileWindow, binary, naming, one_line, refuse_what_is_no_file
from epalm.media.suffixes import suffix_of

ImageSource = FileSource | Image.Image

_SAVE_IT = "save it as JPEG or PNG"
_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_IFDS = 254, 262, 330  # tags of TIFF
_WHITE_IS_ZERO = 0
_MOST_PREVIEWS = 64  # of a TIFF; a crafted one has any number
_LESS_BITS = {"L;2": 85, "L;4": 17}  # a PNG's greys of 2 and 4 bits -> what one step is in 8

_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: ImageSource) -> Image.Image:
    """Read one picture from a path, a binary file object, or a Pillow image.

    Returns:
        An upright Pillow image of mode RGB. Greys of 16 bits are scaled to 8 (65,535 is white); transparency lies on
        white; of several frames the first is taken. Reading the result again changes nothing.

    Raises:
        MediaError: one line with the file's name and why it cannot be read: missing, a directory, empty, no picture, in
            a format that takes a package that is not installed, damaged, cut short, too large to be decoded safely, or
            of a range that has no agreed white.
    """
    with naming(source), warnings.catch_warnings():
        # Pillow warns of odd metadata and of large pictures; neither is the reader's concern once the picture is right.
        warnings.simplefilter("ignore")
        if isinstance(source, Image.Image):
            return upright_rgb(source)
        refuse_what_is_no_file(source, "a picture")
        try:
            with binary(source) as window, _opened(source, window) as image:
                if image.format == "EPS":  # Pillow would run Ghostscript on a stranger's program
                    raise MediaError("a PostScript drawing, not a picture; save it as PNG")
                if image.format == "TIFF":
                    _go_to_first_page(image)
                return upright_rgb(image)
        except UnidentifiedImageError:
            raise MediaError(f"not a picture, or not in a format that can be read here; {_SAVE_IT}") from None
        except Image.DecompressionBombError as error:
            raise MediaError(f"too large to be decoded safely: {one_line(error)}") from None


def _opened(source: FileSource, window: FileWindow) -> Image.Image:
    """What Pillow makes of a file, with the package that it takes for HEIC, if that is installed.

    Args:
        source: the file.
        window: its content.

    Raises:
        MediaError: it is not, or Pillow is too old.
        UnidentifiedImageError: it is no picture.
    """
    file = source if isinstance(source, (str, PathLike)) else cast("BinaryIO", window)
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        kind = suffix_of(window.at(0, 12))
        if kind == ".avif":
            raise MediaError(f"an AVIF picture; pip install -U pillow for one that reads them, or {_SAVE_IT}") from None
        if kind != ".heic":
            raise
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise MediaError(f"a HEIC picture; pip install pillow-heif, which reads them, or {_SAVE_IT}") from None
    return Image.open(file)


def _go_to_first_page(image: Any) -> None:
    """Pass over previews: TIFF marks what is but a smaller copy of another page.

    Raises:
        MediaError: there is nothing else, and the picture itself lies where only a camera's own programs look.
    """
    for page in range(1, _MOST_PREVIEWS):
        if not image.tag_v2.get(_SUBFILE_TYPE, 0) & 1:
            return
        try:
            image.seek(page)
        except EOFError:
            break
    image.seek(0)
    if _SUB_IFDS in image.tag_v2:
        raise MediaError(f"a camera's raw file, of which only a small preview can be read here; {_SAVE_IT}")


def upright_rgb(image: Image.Image) -> Image.Image:
    """What a viewer shows of an opened picture, as `load_image` gives it."""
    _scale_clear_colour(image)
    image.load()
    rgb = _to_rgb(image)
    method = _TO_UPRIGHT.get(_orientation(image))
    if method is None:
        return rgb
    rgb = rgb.transpose(method)
    rgb.info.clear()  # a copy keeps the EXIF of the original, and must not be turned again
    return rgb


def _scale_clear_colour(image: Image.Image) -> None:
    """Have the clear colour of a PNG in 8 bits, as its pixels will be: Pillow leaves it in those of the file."""
    clear, layers = image.info.get("transparency"), getattr(image, "tile", None)
    if image.format != "PNG" or clear is None or not layers or getattr(image, "is_animated", False):
        return
    layout = layers[0][3]  # as the pixels are stored
    if layout in _LESS_BITS:
        image.info["transparency"] = clear * _LESS_BITS[layout]
    elif layout == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata says nothing against the pixels
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _wide_to_rgb(image)
    if image.has_transparency_data or image.mode == "La":
        picture = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    if image.mode == "CMYK" and (rgb := _by_profile(image)):
        return rgb
    return image.convert("RGB")


def _wide_to_rgb(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits."""
    values = np.asarray(image)
    greys = _eight_bits(values, image.mode)
    if image.mode.startswith("I;16"):
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow sees to it in 8 bits alone
            greys = 255 - greys
        if "transparency" in image.info:
            greys = np.where(values == image.info["transparency"], 255, greys).astype(np.uint8)
    return Image.fromarray(greys).convert("RGB")


def _by_profile(image: Image.Image) -> Image.Image | None:
    """Inks -> the colours that they have in print by the picture's own profile; None where it has none that works.

    What is RGB already is taken as it is: pictures that encoders were trained with were read so.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (KeyError, OSError, ValueError, ImportError, ImageCms.PyCMSError):
        return None


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Greys of a wide range -> (H, W) of 8 bits, by the range's own white; Pillow's conversion would clip at 255."""
    low, high = values.min(), values.max()
    if mode != "F" and low >= 0 and high <= 65535:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if mode == "F" and low >= 0 and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if mode == "F" and low >= 0 and high <= 255:
        return np.rint(values).astype(np.uint8)
    ranges = "0 to 1 or 0 to 255" if mode == "F" else "0 to 65535"
    raise MediaError(f"its greys run from {low} to {high}, where {ranges} can be read; save it with 8 or 16 bits")
