"""`epalm data import` tells films from sounds by what is in them, where their names do not."""

import io
import json
import tarfile

import numpy as np
import pytest
from tiny_media import save_clip

from epalm.data.manifest import read_manifest

av = pytest.importorskip("av", reason="PyAV is not installed")


def save_talk(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux([*stream.encode(frame), *stream.encode()])


def test_folders_and_shards(tmp_path, epalm):
    folder = tmp_path / "folder"
    folder.mkdir()
    save_clip(folder / "film.mp4", (255, 0, 0))
    save_talk(folder / "talk.mp4")
    (folder / "sea.aiff").write_bytes(b"...")
    (folder / "wood.TIFF").write_bytes(b"...")
    names = {"film.mp4": "video", "talk.mp4": "audio", "sea.aiff": "audio", "wood.TIFF": "image"}
    rows = [json.dumps({"file_name": name, "text": "a caption"}) for name in names]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    assert epalm("data", "import", folder, "--output", tmp_path / "a.jsonl").code == 0
    assert [list(row.media) for row in read_manifest(tmp_path / "a.jsonl")] == [[kind] for kind in names.values()]
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in names:
            archive.add(folder / name, name)
            entry = tarfile.TarInfo(name.partition(".")[0] + ".txt")
            entry.size = 9
            archive.addfile(entry, io.BytesIO(b"a caption"))
    assert epalm("data", "import", tmp_path / "shard.tar", "--output", tmp_path / "b.jsonl").code == 0
    assert [list(row.media) for row in read_manifest(tmp_path / "b.jsonl")] == [[kind] for kind in names.values()]
