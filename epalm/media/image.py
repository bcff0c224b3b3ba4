"""Pictures as they come -> one upright RGB picture of 8 bits a channel.

What a viewer shows is what the encoder gets: the EXIF rotation is applied, an animation gives its first frame, and
transparency is laid on white, because drawings and logos cut out of their page are made to be seen on a light one.
"""

from __future__ import annotations

import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from epalm.errors import MediaError
from epalm.media.files import FileSource, naming, one_line, refuse_what_is_no_file

ImageSource = FileSource | Image.Image

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
    with naming(source), warnings.catch_warnings():
        # Pillow warns of odd metadata and of large pictures; neither is the reader's concern once the picture is right.
        warnings.simplefilter("ignore")
        if isinstance(source, Image.Image):
            return upright_rgb(source)
        refuse_what_is_no_file(source, "a picture")
        try:
            with Image.open(source) as image:
                if image.format == "EPS":  # Pillow would run Ghostscript on a stranger's program
                    raise MediaError("a PostScript drawing, not a picture; save it as PNG")
                return upright_rgb(image)
        except UnidentifiedImageError:
            raise MediaError("not a picture, or not in a format that can be read here") from None
        except Image.DecompressionBombError as error:
            raise MediaError(f"too large to be decoded safely: {one_line(error)}") from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """What a viewer shows of an opened picture, as `load_image` gives it."""
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
    ranges = "0 to 1 or 0 to 255" if mode == "F" else "0 to 65535"
    raise MediaError(f"its greys run from {low} to {high}, where {ranges} can be read; save it with 8 or 16 bits")
