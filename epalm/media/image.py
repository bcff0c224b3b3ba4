"""Pictures as they come -> one upright RGB picture of 8 bits a channel.

What a viewer shows is what the encoder gets: the EXIF rotation is applied, an animation gives its first frame, and
transparency is laid on white, because drawings and logos cut out of their page are made to be seen on a light one.
"""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from epalm.errors import MediaError

ImageSource = str | PathLike[str] | BinaryIO | Image.Image

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
        MediaError: one line with the file's name and why it cannot be read: missing, a directory, empty, no picture,
            damaged, cut short, too large to be decoded safely, or of a range that has no agreed white.
    """
    name = _name(source)
    try:
        # Pillow warns of odd metadata and of large pictures; neither is the reader's concern once the picture is right.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                return _upright_rgb(source)
            _refuse_what_is_no_file(source)
            with Image.open(source) as image:
                if image.format == "EPS":  # Pillow would run Ghostscript on a stranger's program
                    raise MediaError("a PostScript drawing, not a picture; save it as PNG")
                return _upright_rgb(image)
    except FileNotFoundError:
        raise MediaError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise MediaError(f"{name}: not a picture, or not in a format that can be read here") from None
    except Image.DecompressionBombError as error:
        raise MediaError(f"{name}: too large to be decoded safely: {_one_line(error)}") from None
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from None
    except MemoryError:
        raise MediaError(f"{name}: too large for the memory of this machine") from None
    except PermissionError:
        raise MediaError(f"{name}: no permission to read it") from None
    except Exception as error:
        # Decoders meet damage with whatever comes first: OSError, SyntaxError, struct.error, IndexError, EOFError, ...
        raise MediaError(f"{name}: damaged or cut short: {_one_line(error)}") from None


def _name(source: ImageSource) -> str:
    """What to call `source` in a message."""
    if isinstance(source, (str, PathLike)):
        return str(source)
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    return str(named) if named else f"<{type(source).__name__}>"


def _refuse_what_is_no_file(source: str | PathLike[str] | BinaryIO) -> None:
    """Say plainly what Pillow would report as an unknown format."""
    if isinstance(source, (str, PathLike)):
        path = Path(source)
        if path.is_dir():
            raise MediaError("is a directory, not a picture")
        if path.exists() and not path.is_file():
            raise MediaError("is not a regular file")
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError("the file is empty")
    elif source.seekable():
        here = source.tell()
        left = len(source.read(1))
        source.seek(here)
        if not left:
            raise MediaError("the file is empty")


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    rgb = _to_rgb(image)
    method = _TO_UPRIGHT.get(_orientation(image))
    if method is None:
        return rgb
    rgb = rgb.transpose(method)
    rgb.info.clear()  # a copy keeps the EXIF of the original, and must not be turned again
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata says nothing against the pixels
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Greys of a wide range -> (H, W) of 8 bits, by the range's own white; Pillow's conversion would clip at 255."""
    low, high = values.min(), values.max()
    if mode != "F" and low >= 0 and high <= 65535:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if mode == "F" and low >= 0 and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if mode == "F" and low >= 0 and high <= 255:
        return np.rint(values).astype(np.uint8)
    kinds = "0 to 1 or 0 to 255" if mode == "F" else "0 to 65535"
    raise MediaError(f"its greys run from {low} to {high}, where {kinds} can be read; save it with 8 or 16 bits")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
