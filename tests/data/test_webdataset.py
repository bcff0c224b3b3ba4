"""WebDataset shards as other systems and tools pack them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from epalm.data.manifest import read_manifest

SIDECAR = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


def pack(path: Path, files: Iterable[tuple[str, Any]], links: Iterable[tuple[str, str, bytes]] = ()) -> Path:
    """A shard of (name, content), then of (name, what it links to, kind of link)."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target, kind in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
    return path


@pytest.fixture
def imported(tmp_path: Path, epalm: Any) -> Any:
    """Import what is in a place: what was told, and of each row the caption and the content of its picture."""

    def call(source: Path) -> tuple[str, dict[str, tuple[str, bytes]]]:
        output = tmp_path / "rows.jsonl"
        code, out, err = epalm("data", "import", source, "--output", output)
        assert code == 0, err
        rows = read_manifest(output)
        return out, {row.id: (row.targets[0], row.media["image"].read_bytes()) for row in rows}

    return call


def test_what_operating_systems_leave_is_passed_over_and_counted(tmp_path: Path, imported: Any) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "._a.tar").write_bytes(SIDECAR)
    pack(
        shards / "a.tar",
        [
            ("./.DS_Store", b"x"), ("./._0.jpg", SIDECAR), ("./0.jpg", b"dog"), ("./._0.txt", SIDECAR),
            ("./0.txt", b"a dog"), ("./1.jpg", b"cat"), ("./Thumbs.db", b"x"), ("./1.txt", b"a cat"),
            ("__MACOSX/._1.jpg", SIDECAR), ("__MACOSX/2.jpg", SIDECAR), (".hidden.jpg", b"x"),
        ],
    )  # fmt: skip
    out, rows = imported(shards)
    assert rows == {"a/0": ("a dog", b"dog"), "a/1": ("a cat", b"cat")}
    assert "2 rows; 8 hidden files passed over, such as macOS and Windows leave: ._a.tar\n" in out


def test_dots_in_names_lose_nothing(tmp_path: Path, imported: Any) -> None:
    shard = pack(
        tmp_path / "s.tar",
        [
            ("0.depth.png", b"depth"), ("0.jpg", b"zero"), ("0.seg.png", b"map"), ("0.txt", b"a zero"), ("0.cls", b"7"),
            ("a.b.jpg", b"ab"), ("a.b.txt", b"an ab"),
            ("img.v1.jpg", b"one"), ("img.v1.json", {"caption": "a one"}),
            ("img.v2.jpg", b"two"), ("img.v2.txt", b"a two"),
            ("x.rgb.jpg", b"x"), ("x.caption.txt", b"an x"),
            ("v1.0/y.jpg", b"y"), ("v1.0/y.txt", b"a y"), ("README", b"read me"),
        ],
    )  # fmt: skip
    out, rows = imported(shard)
    assert rows == {
        "s/0": ("a zero", b"zero"), "s/a.b": ("an ab", b"ab"), "s/img.v1": ("a one", b"one"),
        "s/img.v2": ("a two", b"two"), "s/x": ("an x", b"x"), "s/v1.0/y": ("a y", b"y"),
    }  # fmt: skip
    assert "1 names have several dots, and were parted at the last: img.v1" in out
    assert "files of samples that were not read: 1 .cls, 1 .depth.png, 1 .seg.png, 1 without ending\n" in out
    assert len(list((tmp_path / "rows").rglob("*.*"))) == 6  # what is not read is not unpacked


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a.l.jpg", "a.r.jpg", "a.txt"],
            "sample a has two files of image, .l.jpg and .r.jpg; keep one; what is behind the",
        ),
        (["a.1.jpg", "a.1.txt", "b.jpg", "a.2.jpg"], "sample a comes back after others; pack"),
        (["a.jpg", "a.b.txt", "a.c.txt"], "sample a has two files of txt, .b.txt and .c.txt; keep one; what is behind"),
    ],
)
def test_names_that_leave_a_choice_are_refused(tmp_path: Path, refused: Any, names: list[str], message: str) -> None:
    shard = pack(tmp_path / "s.tar", [(name, name.encode()) for name in names])
    refusal = refused("data", "import", shard, "--output", tmp_path / "rows.jsonl")
    assert message in refusal
    assert "the first dot of a name is its ending; give names without other dots" in refusal
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.tar"]  # nothing is left of what was unpacked


def test_names_and_links_of_any_kind(tmp_path: Path, imported: Any) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    long = "deep/" * 60 + "0"
    files = [
        (".\\win\\0.jpg", b"win"), (".\\win\\0.txt", "\ufeffa window".encode()),
        ("caf\udce9.jpg", b"latin"), ("caf\udce9.txt", b"a cafe"),
        (f"{long}.jpg", b"deep"), (f"{long}.txt", b"a deep one"),
        ("A.JPG", b"upper"), ("A.TXT", b"an upper"), ("a.jpg", b"lower"), ("a.txt", b"a lower"),
    ]  # fmt: skip
    links = [
        ("h.jpg", "a.jpg", tarfile.LNKTYPE), ("h.txt", "a.txt", tarfile.LNKTYPE),
        ("l.jpg", "/etc/hostname", tarfile.SYMTYPE), ("m.jpg", "m.jpg", tarfile.SYMTYPE),
    ]  # fmt: skip
    pack(shards / "s.tar.gz", files, links)
    out, rows = imported(shards)
    assert rows == {
        "s/win/0": ("a window", b"win"), "s/caf\\xe9": ("a cafe", b"latin"), f"s/{long}": ("a deep one", b"deep"),
        "s/A": ("an upper", b"upper"), "s/a": ("a lower", b"lower"), "s/h": ("a lower", b"lower"),
    }  # fmt: skip
    assert "2 links to what is no file of the shard: l.jpg -> /etc/hostname" in out
    names = [path.name.lower() for path in (tmp_path / "rows").rglob("*.*")]
    assert len(set(names)) == len(names) == 6  # nor on a disk that takes a.jpg for A.jpg


def test_media_without_content_and_texts_that_say_nothing(tmp_path: Path, imported: Any) -> None:
    fields = [
        {"caption": "a dog"}, {"caption": "empty"}, {"caption": None}, {"caption": float("nan")}, {"caption": " "},
        {"caption": [["a cat"], ["two cats", 3.0]]}, {"caption": "half \ud83d"},
        {"question": ["a?", "b?"], "answer": "c"}, {"caption": "['a dog', 'a cat']"},
    ]  # fmt: skip
    files: list[tuple[str, Any]] = []
    for number, each in enumerate(fields):
        files += [(f"{number}.jpg", b"" if number == 1 else b"x"), (f"{number}.json", each)]
    out, rows = imported(pack(tmp_path / "s.tar", files))
    assert [caption for caption, _ in rows.values()] == ["a dog", "a cat", "['a dog', 'a cat']"]
    assert [row.targets for row in read_manifest(tmp_path / "rows.jsonl")][1] == ("a cat", "two cats", "3")
    for reason in (
        "1 left out: its file is empty",
        "3 left out: has no caption, and no question with an answer",
        "1 left out: has text that is not Unicode",
        "1 left out: has several questions; give each a row of its own",
        "1 captions or answers are one text with a printed list in it; write a list instead: ['a dog', 'a cat'] (s/8)",
    ):
        assert reason in out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [("0.jpg", b"x"), ("0.json", b'{"caption": "a", "caption": "b"}')],
            "sample 0 gives 'caption' twice; keep one",
        ),
        ([("0.jpg", b"x"), ("0.json", b'{"caption": ')], "sample 0 has no valid JSON (Expecting value"),
        ([("0.jpg", b"x"), ("0.json", b'{"caption": "\xff"}')], "sample 0 has no valid JSON ('utf-8' codec"),
        ([("0.jpg", b"x"), ("0.json", b"[" * 9999)], "sample 0 has no valid JSON (nested too deeply"),
        ([("0.jpg", b"x"), ("0.txt", b"caf\xe9")], "sample 0 has a text that is not UTF-8 (byte 4); save it as UTF-8"),
    ],
)
def test_texts_that_are_wrong_are_named(tmp_path: Path, refused: Any, files: Any, message: str) -> None:
    shard = pack(tmp_path / "s.tar", files)
    assert message in refused("data", "import", shard, "--output", tmp_path / "rows.jsonl")


def test_a_text_of_any_length_is_not_read(tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epalm.data.webdataset._LONGEST_TEXT", 1 << 20)
    shard = pack(tmp_path / "s.tar", [("0.jpg", b"x"), ("0.json", b" " * (1 << 20) + b"{}")])
    message = refused("data", "import", shard, "--output", tmp_path / "rows.jsonl")
    assert "sample 0 has a .json of more than 1 MiB" in message
    assert not (tmp_path / "rows").exists()


def test_what_is_packed_in_another_way_is_said(tmp_path: Path, refused: Any) -> None:
    def refusal(source: Path) -> str:
        return str(refused("data", "import", source, "--output", tmp_path / "rows.jsonl"))

    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "a.tar.zst").write_bytes(b"x")
    for source in (shards, shards / "a.tar.zst"):
        assert "a.tar.zst is packed in a way that is not read here; unpack it first" in refusal(source)
    pack(shards / "b.tar", [("0.jpg", b"x"), ("0.txt", b"y")])
    pack(shards / "b.tar.gz", [("0.jpg", b"x"), ("0.txt", b"y")])
    assert "b.tar.gz: has the same name as b.tar; give each shard its own" in refusal(shards)
    whole = gzip.compress(pack(tmp_path / "c.tar", [("0.jpg", b"x" * 9999), ("0.txt", b"y")]).read_bytes(), 0)
    (tmp_path / "c.tar.gz").write_bytes(whole[:5000])
    assert "c.tar.gz: is damaged at sample 0 (" in refusal(tmp_path / "c.tar.gz")
    (tmp_path / "d.tar").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "d.tar: is damaged, or no tar file; it is a pointer of Git LFS: fetch the file with" in refusal(
        tmp_path / "d.tar"
    )
