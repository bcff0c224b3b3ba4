"""The list of what media files are called: whatever is in it is read, and whatever is read is in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from epalm.data.published.folder import Folder
from epalm.media import load_audio, load_image, load_video
from epalm.media.modality import modality_of
from epalm.media.suffixes import MAY_BE_SOUND, MODALITY_OF, SUFFIXES, suffix_of

av = pytest.importorskip("av", reason="PyAV is not installed")

NOT_WRITTEN_HERE = {
    "image": {".heic", ".heif", ".hif", ".psd", ".cur", ".xpm", ".ras"},
    "video": {".rm", ".mxf", ".dv"},
    "audio": {".ape", ".mpc", ".tak", ".shn", ".dts", ".ra", ".rm", ".mxf", ".dv"},
}
"""Formats that have no encoder here, or none for a picture of a few pixels."""

FILM_FORMATS = {  # container, codecs of picture and sound -> suffixes
    ("mp4", "libx264", "aac"): ".mp4 .m4v .mov .qt .3gp .3gpp .3g2 .f4v .ismv",
    ("matroska", "libx264", "aac"): ".mkv .mk3d",
    ("webm", "libvpx", "libopus"): ".webm",
    ("avi", "mpeg4", "libmp3lame"): ".avi",
    ("flv", "flv", "libmp3lame"): ".flv",
    ("mpeg", "mpeg2video", "mp2"): ".mpg .mpeg .mpe .vob",
    ("mpegts", "mpeg2video", "mp2"): ".ts .m2ts .mts .m2t",
    ("asf", "wmv2", "aac"): ".wmv .asf",
    ("ogv", "libvpx", "libopus"): ".ogv",
    ("nut", "mpeg4", "mp2"): ".nut",
    ("wtv", "mpeg2video", "mp2"): ".wtv",
    ("mpeg2video", "mpeg2video", None): ".m2v",
    ("mpeg1video", "mpeg1video", None): ".m1v",
    ("yuv4mpegpipe", "wrapped_avframe", None): ".y4m",
    ("ivf", "libvpx", None): ".ivf",
    ("obu", "libsvtav1", None): ".obu",
    ("h264", "libx264", None): ".h264 .264 .avc",
    ("hevc", "libx265", None): ".h265 .265 .hevc",
    ("mjpeg", "mjpeg", None): ".mjpeg .mjpg",
}
SOUND_FORMATS = {  # container, codec -> suffixes
    ("mp3", "libmp3lame"): ".mp3 .mpga",
    ("ipod", "aac"): ".m4a .m4b",
    ("adts", "aac"): ".aac .adts",
    ("ogg", "libopus"): ".ogg .opus .oga .spx",
    ("asf", "aac"): ".wma",
    ("matroska", "aac"): ".mka",
    ("mp2", "mp2"): ".mp2 .mpa .m2a",
    ("ac3", "ac3"): ".ac3",
    ("eac3", "eac3"): ".eac3 .ec3",
    ("amr", "libopencore_amrnb"): ".amr",
    ("wv", "wavpack"): ".wv",
    ("tta", "tta"): ".tta",
    ("ismv", "aac"): ".isma",
    ("wav", "pcm_s16le"): ".wav",
    ("flac", "flac"): ".flac",
    ("aiff", "pcm_s16be"): ".aiff .aif .aifc",
    ("au", "pcm_s16be"): ".au .snd",
    ("caf", "pcm_s16be"): ".caf",
    ("w64", "pcm_s16le"): ".w64",
    ("voc", "pcm_s16le"): ".voc",
}
FILMS = {suffix: formats for formats, suffixes in FILM_FORMATS.items() for suffix in suffixes.split()}
SOUNDS = {suffix: formats for formats, suffixes in SOUND_FORMATS.items() for suffix in suffixes.split()}
BY_SOUNDFILE = {".rf64": "RF64", ".sph": "NIST", ".nist": "NIST"}
ANIMATIONS = {".gif": "GIF", ".apng": "PNG", ".avifs": "AVIF"}


def available(codec: str | None) -> bool:
    return codec is None or codec in av.codecs_available


def write_film(path: Path, container_format: str, picture_codec: str | None, sound_codec: str | None) -> Path:
    """A second of grey, and of a tone."""
    with av.open(str(path), "w", format=container_format) as container:
        streams = []
        if picture_codec:
            video = container.add_stream(picture_codec, rate=25)
            video.width, video.height = 64, 48
            video.pix_fmt = "yuvj420p" if picture_codec == "mjpeg" else "yuv420p"
            picture = np.full((48, 64, 3), 128, np.uint8)
            frames = [av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=video.pix_fmt) for _ in range(25)]
            streams.append((video, frames))
        if sound_codec:
            rate = 8000 if "amr" in sound_codec else 48000 if sound_codec == "libopus" else 44100
            audio = container.add_stream(sound_codec, rate=rate, layout="mono")
            tone = (9999 * np.sin(np.arange(rate) / 9)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.rate, frame.pts = rate, 0
            size = audio.codec_context.frame_size or None
            resampler = av.AudioResampler(audio.codec_context.format, "mono", rate, frame_size=size)
            streams.append((audio, [*resampler.resample(frame), *resampler.resample(None)]))
        packets = []
        for stream, frames in streams:
            for index, frame in enumerate(frames):
                frame.pts = index if isinstance(frame, av.VideoFrame) else frame.pts
                packets += stream.encode(frame)
            packets += stream.encode()
        for packet in packets:
            container.mux(packet)
    return path


def write_picture(path: Path) -> bool:
    """Whether there is an encoder."""
    for mode in ("RGB", "L", "1", "F", "P"):
        try:
            Image.new(mode, (16, 16), 1).save(path)
            return True
        except (OSError, ValueError, KeyError):  # the format has other modes
            continue
    return False


def test_each_suffix_has_one_first_meaning_and_is_small():
    for modality, suffixes in SUFFIXES.items():
        assert len(set(suffixes)) == len(suffixes)
        assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
        assert NOT_WRITTEN_HERE[modality] <= set(suffixes)
    assert set(MODALITY_OF) == {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES["image"] if suffix not in NOT_WRITTEN_HERE["image"]])
def test_every_picture_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if not write_picture(path):
        pytest.skip("a Pillow that does not write it")
    width, height = load_image(path).size
    assert width == height >= 16


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES["video"] if suffix not in NOT_WRITTEN_HERE["video"]])
def test_every_film_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix in ANIMATIONS:
        pictures = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (0, 128)]
        pictures[0].save(path, ANIMATIONS[suffix], save_all=True, append_images=pictures[1:], duration=100)
    else:
        container_format, picture_codec, _ = FILMS[suffix]
        if not available(picture_codec):
            pytest.skip(f"a PyAV without {picture_codec}")
        write_film(path, container_format, picture_codec, None)
    assert load_video(path, 2).shape == (2, 48, 64, 3)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES["audio"] if suffix not in NOT_WRITTEN_HERE["audio"]])
def test_every_sound_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix in BY_SOUNDFILE:
        soundfile = pytest.importorskip("soundfile")
        soundfile.write(path, np.sin(np.arange(44100) / 9) / 2, 44100, format=BY_SOUNDFILE[suffix], subtype="PCM_16")
    else:
        container_format, codec = SOUNDS.get(suffix) or FILMS[suffix][::2]
        if not available(codec):
            pytest.skip(f"a PyAV without {codec}")
        write_film(path, container_format, None, codec)
    sound = load_audio(path, 16000)
    assert len(sound) == pytest.approx(16000, abs=3000)
    assert np.abs(sound).max() > 0.1


def test_no_picture_that_is_read_is_missing(tmp_path):
    Image.init()
    unusual = ("EPS", "IM")  # refused, and about to leave Pillow
    missing = []
    for suffix, name in Image.registered_extensions().items():
        is_read = name in Image.SAVE and name in Image.OPEN and name not in unusual
        if is_read and suffix not in SUFFIXES["image"] and write_picture(tmp_path / f"a{suffix}"):
            missing.append(suffix)
    assert missing == []


def test_no_film_or_sound_that_is_read_is_missing():
    """Of the containers written above, all that FFmpeg calls them."""
    known = {*SUFFIXES["video"], *SUFFIXES["audio"]}
    rare = {".psp", ".ism", ".mj2", ".mks", ".h26l", ".afc", ".dvd"}
    for container_format, *_ in (*FILM_FORMATS, *SOUND_FORMATS):
        extensions = {f".{name}" for name in av.format.ContainerFormat(container_format, "w").extensions}
        assert extensions <= known | rare, container_format


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".3gp", ".ts", ".ogg"])
def test_what_a_film_or_a_sound_is_tells_its_content(tmp_path, suffix):
    container_format, *codecs = FILMS.get(suffix, FILMS[".ogv"])
    film = write_film(tmp_path / f"film{suffix}", container_format, codecs[0], codecs[1])
    sound = write_film(tmp_path / f"sound{suffix}", container_format, None, codecs[1])
    assert suffix in MAY_BE_SOUND
    assert modality_of(film) == "video"
    assert modality_of(sound) == "audio"
    sound.write_bytes(b"damaged")
    assert modality_of(sound) == modality_of(tmp_path / f"none{suffix}") == ("audio" if suffix == ".ogg" else "video")


def test_what_a_file_is_by_its_name(tmp_path):
    names = {
        "a.JPG": "image",
        "a.tar.PNG": "image",
        "a.gif": "image",
        "a.heic": "image",
        "a.MP4": "video",
        "a.m4a": "audio",
    }
    assert {name: modality_of(tmp_path / name) for name in names} == names
    assert modality_of(tmp_path / "a.txt") is None
    assert modality_of(tmp_path / "a") is None


def test_the_content_tells_a_suffix_of_its_kind(tmp_path):
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".avif", ".jp2", ".qoi"):
        if suffix != ".avif" or features.check("avif"):
            write_picture(tmp_path / f"a{suffix}")
            assert suffix_of((tmp_path / f"a{suffix}").read_bytes()) == suffix
    for suffix in (".mp4", ".avi", ".webm", ".mkv", ".flv", ".mpg", ".ts", ".asf", ".3gp", ".mov"):
        container_format, picture_codec, _ = FILMS[suffix]
        name = {".3gp": "3gp", ".mov": "mov"}.get(suffix, container_format)
        write_film(tmp_path / f"a{suffix}", name, picture_codec, None)
        assert suffix_of((tmp_path / f"a{suffix}").read_bytes()) == suffix
    for suffix in (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aac", ".aiff", ".amr", ".au", ".caf"):
        write_film(tmp_path / f"a{suffix}", SOUNDS[suffix][0], None, SOUNDS[suffix][1])
        assert suffix_of((tmp_path / f"a{suffix}").read_bytes()) == suffix
    assert suffix_of(b"") == suffix_of(b"something else") == ""


def test_a_data_set_may_have_been_converted_to_any_of_them(tmp_path):
    for name in ("rain.aac", "sea.tiff", "wood.mpg", "talk.mp4", "talk.png"):
        (tmp_path / name).touch()
    folder = Folder(tmp_path)
    assert folder.media("audio", ["rain.wav"]) == tmp_path / "rain.aac"
    assert folder.media("image", ["sea.jpg"]) == tmp_path / "sea.tiff"
    assert folder.media("video", ["wood"]) == tmp_path / "wood.mpg"
    assert folder.media("audio", ["wood.flac"]) == tmp_path / "wood.mpg"
    assert folder.media("video", ["talk.avi"]) == tmp_path / "talk.mp4"  # and not its cover
    (tmp_path / "talk.mp4").unlink()
    assert Folder(tmp_path).media("video", ["talk.avi"]) is None
