"""`epalm data import` of Arrow and Parquet files, laid out as `datasets` 5 writes them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from epalm.data.arrow_files import read_arrow
from epalm.data.manifest import read_manifest

MEDIA = pa.struct({"bytes": pa.binary(), "path": pa.string()})
IMAGE = {"_type": "Image"}


def png(*colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(file, "PNG")
    return file.getvalue()


def table(columns: dict[str, Any], features: dict[str, Any] | None = None, **types: pa.DataType) -> pa.Table:
    """As `datasets` has it in memory: what each column is stands in the schema."""
    arrays = {
        name: values if isinstance(values, pa.Array) else pa.array(values, types.get(name))
        for name, values in columns.items()
    }
    made = pa.table(arrays)
    if features is None:
        return made
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save_to_disk(folder: Path, *shards: pa.Table) -> Path:
    """What `Dataset.save_to_disk` leaves."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, shard.schema) as writer:
            writer.write_table(shard, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "b8f2515c590cbde6", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    features = json.loads(shards[0].schema.metadata[b"huggingface"])["info"]["features"]
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def pictures(*rows: tuple[bytes | None, str | None, Any]) -> pa.Table:
    media = pa.array([{"bytes": content, "path": path} for content, path, _ in rows], MEDIA)
    return table({"image": media, "caption": [caption for *_, caption in rows]}, {"image": IMAGE})


def test_a_saved_data_set(tmp_path: Path, epalm: Any) -> None:
    first = pictures(
        (png(1), "a/dog.png", " a dog\nruns"), (png(1), "a/dog.png", "it is brown"), (png(2), "b/dog.png", "x")
    )
    second = pictures((png(3), None, "y"), (png(3), None, "z"), (png(4), None, None), (None, "gone.png", "lost"))
    save_to_disk(tmp_path / "saved", first, second)
    output = tmp_path / "rows.jsonl"
    code, out, err = epalm("data", "import", tmp_path / "saved", "--output", output)
    assert (code, err) == (0, "")
    assert out == (
        f"{output}: 5 rows; 1 left out: has no caption, and no question with an answer; "
        "1 left out: its file is not there\n"
    )
    rows = read_manifest(output)
    assert [(row.id, *row.targets) for row in rows] == [
        ("0", "a dog runs"), ("1", "it is brown"), ("2", "x"), ("3", "y"), ("4", "z"),
    ]  # fmt: skip
    contents = [row.media["image"].read_bytes() for row in rows]
    assert contents == [png(1), png(1), png(2), png(3), png(3)]
    files = [row.media["image"] for row in rows]
    assert (files[0], files[0].name, files[3]) == (files[1], "dog.png", files[4])  # one content, one file
    assert {file.suffix for file in files} == {".png"}  # of the third, too, which came without a name
    assert len(list((tmp_path / "rows").iterdir())) == 3


def test_a_dict_of_splits(tmp_path: Path, epalm: Any, refused: Any) -> None:
    for number, name in enumerate(("train", "minival")):
        save_to_disk(tmp_path / "saved" / name, pictures((png(number), None, name)))
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "minival"]}')
    output = tmp_path / "rows.jsonl"
    refusal = refused("data", "import", tmp_path / "saved", "--output", output)
    assert "has several splits (minival, train); import each on its own, with --split" in refusal
    refusal = refused("data", "import", tmp_path / "saved", "--split", "val", "--output", output)
    assert "has no split 'val'; there are minival, train" in refusal
    assert not output.exists()
    assert epalm("data", "import", tmp_path / "saved", "--split", "minival", "--output", output).code == 0
    (row,) = read_manifest(output)
    assert (row.id, row.targets) == ("minival/0", ("minival",))
    assert epalm("data", "import", tmp_path / "saved" / "train", "--output", output).code == 0
    (row,) = read_manifest(output)
    assert (row.id, row.media["image"].read_bytes()) == ("0", png(0))


def test_parquet_as_the_hub_keeps_it(tmp_path: Path, epalm: Any, refused: Any) -> None:
    features = {"photo": IMAGE, "label": {"_type": "ClassLabel", "names": ["a cat", "a dog"]}}
    for name, start in (("train-00000-of-00002", 0), ("train-00001-of-00002", 40), ("test-00000-of-00001", 90)):
        photos = pa.array([{"bytes": png(start + i), "path": f"{i}.png"} for i in range(40)], MEDIA)
        made = table({"photo": photos, "question": ["what?"] * 40, "answer": [0, 1] * 20}, features)
        made = made.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features | {"answer": features["label"]}}})}
        )
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        parquet.write_table(made, tmp_path / "hub" / "data" / f"{name}.parquet", row_group_size=16)
    output = tmp_path / "rows.jsonl"
    assert "several splits (test, train)" in refused("data", "import", tmp_path / "hub", "--output", output)
    assert epalm("data", "import", tmp_path / "hub", "--split", "train", "--output", output).code == 0
    rows = read_manifest(output)
    assert [row.id for row in rows] == [f"train/{i}" for i in range(80)]
    assert [row.media["image"].read_bytes() for row in rows] == [png(i) for i in range(80)]
    assert [row.targets for row in rows] == [("a cat",), ("a dog",)] * 40
    assert {row.question for row in rows} == {"what?"}


@pytest.mark.parametrize(
    "answers",
    [
        [{"answer": "red", "answer_id": 1}, {"answer": "dark red", "answer_id": 2}],
        {"answer": ["red", "dark red"], "answer_id": [1, 2]},
        ["red", "dark red"],
        [1, 0],
    ],
)
def test_answers_in_any_of_their_shapes(tmp_path: Path, epalm: Any, answers: Any) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    classes = {"_type": "List", "feature": {"_type": "ClassLabel", "names": ["dark red", "red"]}}
    features = {"answers": classes} if answers == [1, 0] else None
    content = table({"image": ["a.png"], "question": ["which?"], "answers": [answers]}, features)
    parquet.write_table(content, tmp_path / "one.parquet")
    assert epalm("data", "import", tmp_path / "one.parquet", "--output", tmp_path / "rows.jsonl").code == 0
    (row,) = read_manifest(tmp_path / "rows.jsonl")
    assert row.targets == ("red", "dark red")
    assert row.media["image"].samefile(tmp_path / "a.png")  # a path stays where it is


def test_sounds_beside_pictures(tmp_path: Path, epalm: Any) -> None:
    sound = b"RIFF\x00\x00\x00\x00WAVEfmt "
    both = table(
        {
            "audio": pa.array([{"bytes": sound, "path": None}, {"bytes": sound, "path": "../../up.flac"}], MEDIA),
            "picture": pa.array([{"bytes": png(1), "path": None}, None], MEDIA),
            "captions": [["rain", " "], ["wind", "storm"]],
        },
        {"audio": {"_type": "Audio"}, "picture": IMAGE},
    )
    save_to_disk(tmp_path / "saved", both)
    (tmp_path / "out").mkdir()
    assert epalm("data", "import", tmp_path / "saved", "--output", tmp_path / "out" / "rows.jsonl").code == 0
    first, second = read_manifest(tmp_path / "out" / "rows.jsonl")
    assert (set(first.media), first.targets) == ({"audio", "image"}, ("rain",))
    assert (set(second.media), second.targets) == ({"audio"}, ("wind", "storm"))
    assert first.media["audio"].suffix == ".wav"
    assert second.media["audio"] == tmp_path / "out" / "rows" / "up.flac"


def test_arrow_files_with_an_index(tmp_path: Path, epalm: Any) -> None:
    made = pictures((png(1), "a.png", "one"), (png(2), "b.png", "two"), (png(3), "c.png", "three"))
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, made.schema) as writer:
        writer.write_table(made, max_chunksize=2)
    assert epalm("data", "import", tmp_path / "x.arrow", "--output", tmp_path / "rows.jsonl").code == 0
    rows = read_manifest(tmp_path / "rows.jsonl")
    assert [(row.id, row.targets[0]) for row in rows] == [("0", "one"), ("1", "two"), ("2", "three")]
    assert rows[2].media["image"].read_bytes() == png(3)


def test_several_pictures_in_a_row(tmp_path: Path, epalm: Any) -> None:
    content = {"bytes": png(1), "path": None}
    several = table(
        {"image": pa.array([[content], [content, content], []], pa.list_(MEDIA)), "caption": ["a", "b", "c"]}
    )
    parquet.write_table(several, tmp_path / "some.parquet")
    done = epalm("data", "import", tmp_path / "some.parquet", "--output", tmp_path / "rows.jsonl")
    assert "1 rows; 2 left out: brings several of a kind, or none" in done.out
    (row,) = read_manifest(tmp_path / "rows.jsonl")
    assert row.media["image"].read_bytes() == png(1)


def test_files_and_cells_as_other_systems_leave_them(tmp_path: Path, epalm: Any, refused: Any) -> None:
    hub = tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    (tmp_path / "hub" / "data" / "a.png").write_bytes(png(1))
    paths = pa.array(
        [{"bytes": None, "path": path} for path in (".\\a.png", "A.png")]
        + [{"bytes": content, "path": None} for content in (b"", png(2), png(3))],
        MEDIA,
    )
    made = table({"image": paths, "text": pa.array([b"zero", b"one", b"two", b"three", b"caf\xe9"])})
    parquet.write_table(made, hub / "data" / "train-00000.parquet")
    for name in ("data/._train-00000.parquet", "__MACOSX/data/train-00000.parquet", "._test.parquet"):
        (hub / name).parent.mkdir(parents=True, exist_ok=True)
        (hub / name).write_bytes(b"\x00\x05\x16\x07")
    output = tmp_path / "rows.jsonl"
    code, out, _ = epalm("data", "import", hub, "--output", output)
    assert code == 0
    assert [row.targets for row in read_manifest(output)] == [("zero",), ("three",)]
    for part in (
        "2 rows; 1 left out: its file is not there; 1 left out: its file is empty; 1 left out: has text that is not",
        "3 hidden files passed over, such as macOS and Windows leave: ._test.parquet",
        "1 files found under another spelling of their path: '.\\a.png' (row train/0) has backslashes",
        "1 missing files have a near one: row train/1: 'a.png' is there, which differs in upper and lower case",
    ):
        assert part in out
    counts = table({"image": pa.array([png(1), png(2)]), "question": ["how many?"] * 2, "answer": [3.0, None]})
    parquet.write_table(counts, tmp_path / "counts.parquet")
    assert "1 rows; 1 left out" in epalm("data", "import", tmp_path / "counts.parquet", "--output", output).out
    assert [row.targets for row in read_manifest(output)] == [("3",)]
    (tmp_path / "b.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refusal = refused("data", "import", tmp_path / "b.parquet", "--output", tmp_path / "b.jsonl")
    assert "it is a pointer of Git LFS: fetch the file with `git lfs pull`" in refusal


def test_places_beyond_the_file_and_texts_that_are_none(tmp_path: Path, refused: Any) -> None:
    """Which pyarrow does not look at by itself: it reads on, or fails in ways of its own."""
    file = (
        save_to_disk(tmp_path / "saved", pictures(*[(png(i), None, "cafe") for i in range(2)]))
        / "data-00000-of-00001.arrow"
    )
    whole = file.read_bytes()
    ends = b"".join(number.to_bytes(4, "little") for number in (0, 4, 8))
    file.write_bytes(whole.replace(b"caption", b"captio\xe9"))
    assert f"{file}: cannot be read ('utf-8' codec" in refused(
        "data", "import", file, "--output", tmp_path / "rows.jsonl"
    )
    for before, after in ((ends, ends[:8] + b"\0\0\0\x7f"), (b"cafecafe", b"caf\xe9cafe")):
        assert whole.count(before) == 1
        file.write_bytes(whole.replace(before, after))
        assert f"{file}: cannot be read (In column 1: Invalid" in refused(
            "data", "import", file, "--output", tmp_path / "rows.jsonl"
        )


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "saved", pictures(*[(bytes(1_000_000), None, "x")] * 40))
    before = pa.total_allocated_bytes()
    most = 0
    for row in read_arrow(tmp_path / "saved", ["caption"]):
        assert row.fields == {"caption": "x"}
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 2_000_000  # of 40 million


def test_what_cannot_be_imported(tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "rows.jsonl"
    saved = save_to_disk(tmp_path / "saved", *[pictures((png(1), None, "x"))] * 2)
    second, state = saved / "data-00001-of-00002.arrow", (saved / "state.json").read_text()
    second.write_bytes(second.read_bytes()[:-100])
    assert "data-00001-of-00002.arrow: cannot be read (" in refused("data", "import", saved, "--output", output)
    second.unlink()
    assert "data-00001-of-00002.arrow: cannot be read (" in refused("data", "import", saved, "--output", output)
    (saved / "state.json").write_text(
        json.dumps(json.loads(state) | {"_indices_data_files": [{"filename": "i.arrow"}]})
    )
    assert "is a selection as old versions" in refused("data", "import", saved, "--output", output)
    (saved / "state.json").write_text("{}")
    assert "state.json: names no data files" in refused("data", "import", saved, "--output", output)
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    assert "a.parquet: cannot be read (" in refused("data", "import", tmp_path / "a.parquet", "--output", output)
    parquet.write_table(table({"img": ["a.png"], "caption": ["x"]}), tmp_path / "a.parquet")
    refusal = refused("data", "import", tmp_path / "a.parquet", "--output", output)
    assert (
        "no column holds pictures, clips or sounds; name one image, video or audio; there are img, caption" in refusal
    )
    parquet.write_table(table({"image": ["a.png"], "caption": ["x"]}), tmp_path / "a.parquet")
    refusal = refused("data", "import", tmp_path / "a.parquet", "--output", output)
    assert "no sample can be used: 0 rows; 1 left out: its file is not there" in refusal
    assert not output.exists()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refusal = refused("data", "import", tmp_path / "a.parquet", "--output", output)
    assert 'take the package pyarrow: pip install "epalm[parquet]"' in refusal
