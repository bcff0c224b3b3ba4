"""Folders with metadata, as other systems and tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data.published.published_layouts import fill

from epalm.data.manifest import read_manifest


@pytest.fixture
def imported(tmp_path: Path, epalm: Any) -> Any:
    """Import the directory `pictures`: what was told, and each row's file and captions."""

    def call() -> tuple[str, list[tuple[str, ...]]]:
        output = tmp_path / "rows.jsonl"
        code, out, err = epalm("data", "import", tmp_path / "pictures", "--output", output)
        assert code == 0, err
        return out, [(row.media["image"].name, *row.targets) for row in read_manifest(output)]

    return call


def test_paths_of_other_systems(tmp_path: Path, imported: Any) -> None:
    written = ["a\\0.png", "caf\u00e9.png", "a%20b.png", "gone/A.PNG", "gone.png", "._0.png", "none.png"]
    lines = "\r\n".join(json.dumps({"file_name": name, "text": f"{i}"}) for i, name in enumerate(written))
    fill(
        tmp_path / "pictures",
        {"metadata.jsonl": f"\ufeff{lines}"},
        ["a/0.png", "cafe\u0301.png", "a b.png", "A.PNG", "GONE.png", "._0.png", "._metadata.jsonl"],
    )
    out, rows = imported()
    assert rows == [("0.png", "0"), ("cafe\u0301.png", "1"), ("a b.png", "2")]
    table = tmp_path / "pictures" / "metadata.jsonl"
    assert (
        "3 rows; 3 left out: its file is not there; 1 left out: names what an operating system left; "
        f"3 files found under another spelling of their path: 'a\\0.png' ({table}, line 1) has backslashes between "
        f"directories; 2 missing files have a near one: {table}, line 4: 'A.PNG' is there: leave out the directories "
        "before it; 1 hidden files passed over, such as macOS and Windows leave: ._0.png\n"
    ) in out


def test_a_table_beside_another_is_not_read_and_that_is_told(tmp_path: Path, imported: Any) -> None:
    fill(
        tmp_path / "elsewhere",
        {
            "metadata.jsonl": '{"file_name": "0.png", "text": "a dog"}\n',
            "metadata.csv": "file_name,text\n0.png,a cat\n",
        },
        ["0.png"],
    )
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures" / "train" / "again").symlink_to(tmp_path / "pictures")
    (tmp_path / "pictures" / "a.tar").write_bytes(b"")
    out, rows = imported()
    assert rows == [("0.png", "a dog")]
    assert "1 shards were not read, because there is metadata of files: a.tar\n" in out
    assert "1 tables were not read, because metadata.jsonl lies beside them: " in out


def test_fields_of_a_table(tmp_path: Path, imported: Any) -> None:
    long = "word " * 30_000
    content = (
        f'\ufefffile_name, caption \r\n0.png,"two\r\nlines"\r\n1.png,"{long}"\r\n2.png,"[\'a\', \'b\']"\r\n3.png,\r\n'
    )
    fill(tmp_path / "pictures", media=[f"{number}.png" for number in range(4)])
    (tmp_path / "pictures" / "metadata.csv").write_bytes(content.encode())
    out, rows = imported()
    assert rows == [("0.png", "two lines"), ("1.png", long.strip()), ("2.png", "['a', 'b']")]
    assert "1 left out: has no caption" in out
    assert f"write a list instead: ['a', 'b'] ({tmp_path}/pictures/metadata.csv, row 3)" in out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "metadata.csv",
            "image,caption\n0.png,x\n",
            "metadata.csv: has no field 'file_name'; there are 'image', 'caption'",
        ),
        (
            "metadata.csv",
            "file_name,text,text\n0.png,x,y\n",
            "metadata.csv, line 1: names column 'text' twice; keep one",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "0.png"}\n{"text": "a", "text": "b"}',
            "line 2: gives 'text' twice; keep one",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "0.png"}\n{"text": \n',
            "metadata.jsonl, line 2: is not JSON (Expecting value",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "0.png"}\n{"text": ' + "[" * 9999,
            "metadata.jsonl, line 2: is not JSON (nested too deeply",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "0.png", "text": ' + "[" * 600 + "1" + "]" * 600 + "}",
            "no sample can be used: 0 rows; 1 left out: has text in lists that are nested too deeply",
        ),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, refused: Any, name: str, content: str, message: str) -> None:
    fill(tmp_path / "pictures", {name: content}, ["0.png"])
    assert message in refused("data", "import", tmp_path / "pictures", "--output", tmp_path / "rows.jsonl")
