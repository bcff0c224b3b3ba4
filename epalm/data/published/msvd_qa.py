"""MSVD-QA (Xu et al., ACM MM 2017): questions about the YouTube clips of MSVD.

Questions number the clips; `youtube_mapping.txt` says which clip has which number (`-4wsuPCjDBc_5_15 vid1`). Without
it, clips are looked for as `vid1` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, Published, register
from epalm.data.published.files import read_lines, stem
from epalm.data.published.video_questions import VIDEO_QUESTIONS_HOME, questions_files, read_questions, rows_layout


def _official(split: str, path: Path, mapping: Path | None = None) -> Iterator[Item]:
    pairs = [line.split() for line in read_lines(mapping)] if mapping is not None else []
    clips = {number: clip for clip, number in pairs}

    def names(video: int | str) -> tuple[str, ...]:
        bare = str(video) if str(video).isdecimal() else stem(str(video))
        number = f"vid{bare}" if bare.isdecimal() else bare
        return (clips[number], number) if number in clips else (number,)

    return read_questions(path, names)


MSVD_QA = register(
    Published(
        name="msvd_qa",
        title="MSVD-QA",
        modality="video",
        layouts=(Layout("official", questions_files("youtube_mapping.txt?"), _official), rows_layout("msvd_vqa")),
        home=VIDEO_QUESTIONS_HOME,
        media_home="https://www.cs.utexas.edu/~ml/clamp/videoDescription/YouTubeClips.tar",
        results="vqa",
    )
)
