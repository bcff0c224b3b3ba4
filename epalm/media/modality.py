"""Whether a file is a picture, a film or a sound, where nobody says so."""

from __future__ import annotations

from pathlib import Path

from epalm.errors import MediaError
from epalm.media.files import naming
from epalm.media.libav import opened
from epalm.media.suffixes import MAY_BE_SOUND, MODALITY_OF
from epalm.media.video_track import has_video


def modality_of(path: str | Path) -> str | None:
    """`image`, `video` or `audio`, by the name of the file; None where the name tells nothing.

    A film is a video, though it may be listened to, and an animated picture is an image, though it may be watched.
    Of names that films and sounds share, such as `.mp4`, `.webm` and `.ogg`, the content tells: a video if there are
    pictures other than a cover. Where the file is not there, or cannot be looked into, it is by its name.
    """
    suffix = Path(path).suffix.lower()
    if suffix in MAY_BE_SOUND and Path(path).is_file():
        try:
            with naming(path), opened(path, "a film or a sound", "video") as container:
                if container.streams.video or container.streams.audio:
                    return "video" if has_video(container) else "audio"
        except MediaError:  # damaged, or PyAV is not here: whoever reads it will say so
            pass
    return MODALITY_OF.get(suffix)
