"""How files of pictures, films and sounds are called: the one list for whatever finds files by their names.

Readers look at the content and not at the name, so a file of any name is read by whoever is told its modality. The name
counts where files are looked for in a directory, and where nobody says what a file is (`epalm.media.modality`).
"""

from __future__ import annotations

_PICTURES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".jfif", ".jpe", ".tif", ".tiff", ".avif", ".avifs", ".apng"),
    *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".pfm", ".tga", ".icb", ".vda", ".vst", ".qoi", ".dib", ".ico", ".icns", ".cur", ".pcx", ".sgi", ".rgb", ".rgba"),
    *(".bw", ".dds", ".blp", ".msp", ".xbm", ".xpm", ".ras", ".psd"),
)
_FILMS = (  # which have a sound track, or nothing but one
    *(".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".mpe", ".vob", ".ts", ".m2ts", ".mts"),
    *(".m2t", ".wmv", ".asf", ".3gp", ".3gpp", ".3g2", ".ogv", ".f4v", ".qt", ".mxf", ".mk3d", ".ismv"),
    *(".rm", ".nut", ".wtv", ".dv"),
)
_SILENT_FILMS = (
    *(".m2v", ".m1v", ".y4m", ".ivf", ".obu", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg"),
)
_ANIMATIONS = (".gif", ".apng", ".avifs")
_SOUNDS = (
    *(".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus", ".aac", ".wma", ".aiff", ".aif", ".aifc", ".oga", ".spx"),
    *(".mka", ".m4b", ".mp2", ".mpga", ".mpa", ".m2a", ".adts", ".ac3", ".eac3", ".ec3", ".dts", ".amr", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".voc", ".sph", ".nist", ".wv", ".tta", ".ape", ".mpc", ".tak", ".shn", ".ra", ".isma"),
)

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": _PICTURES,
    "video": (*_FILMS, *_SILENT_FILMS, *_ANIMATIONS),
    "audio": (*_SOUNDS, *_FILMS),
}
"""Of the media files of each modality, in small letters, the preferred first.

Every film may be listened to. Of animated pictures only those whose name says that they are animated count as films:
beside a film lies often a `.png`, `.webp` or `.avif` of the same name, which is its cover.
"""

MODALITY_OF: dict[str, str] = {
    suffix: modality for modality in ("audio", "video", "image") for suffix in SUFFIXES[modality]
}
"""What a file is by its suffix alone: a film is a video and an animation is a picture."""

MAY_BE_SOUND = (*_FILMS, ".ogg")
"""Suffixes of files of which only their content tells whether they are a film or a sound."""

_BEGINNINGS = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG", ".png"),
    (0, b"GIF8", ".gif"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (4, b"jP  ", ".jp2"),
    (0, b"qoif", ".qoi"),
    (8, b"WEBP", ".webp"),
    (8, b"WAVE", ".wav"),
    (8, b"AVI ", ".avi"),
    (8, b"AIFF", ".aiff"),
    (8, b"AIFC", ".aifc"),
    (0, b"fLaC", ".flac"),
    (0, b"OggS", ".ogg"),
    (0, b"ID3", ".mp3"),
    *((0, bytes((0xFF, byte)), ".mp3") for byte in (0xFB, 0xFA, 0xF3, 0xF2)),
    *((0, bytes((0xFF, byte)), ".aac") for byte in (0xF1, 0xF9)),
    (0, b"#!AMR", ".amr"),
    (0, b".snd", ".au"),
    (0, b"caff", ".caf"),
    *((8, brand, ".avif") for brand in (b"avif", b"avis")),
    *((8, brand, ".heic") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")),
    (8, b"M4A ", ".m4a"),
    (8, b"qt  ", ".mov"),
    (8, b"3g", ".3gp"),
    (4, b"ftyp", ".mp4"),
    (24, b"matroska", ".mkv"),
    (31, b"matroska", ".mkv"),
    (0, b"\x1aE\xdf\xa3", ".webm"),
    (0, b"FLV\1", ".flv"),
    (0, b"\0\0\1\xba", ".mpg"),
    (0, b"0&\xb2u\x8ef\xcf\x11", ".asf"),
    (188, b"G", ".ts"),
    (0, b"BM", ".bmp"),
)
"""Where in a file what stands that tells its kind."""


def suffix_of(content: bytes) -> str:
    """What a file may be called, by the beginning of its content; empty where that tells nothing."""
    return next((suffix for at, begin, suffix in _BEGINNINGS if content[at : at + len(begin)] == begin), "")
