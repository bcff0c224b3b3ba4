"""`epalm data import`: WebDataset shards and folders of files, as others made them."""

import io
import json
import tarfile

import pytest
from data.published.published_layouts import fill

from epalm.data.manifest import read_manifest


def _shard(path, files):
    with tarfile.open(path, "w") as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_webdataset_shards(tmp_path, epalm):
    shards = tmp_path / "shards"
    shards.mkdir()
    _shard(
        shards / "train-000.tar",
        {
            "a/0.jpg": b"first",
            "a/0.txt": b" A dog\nruns ",
            "a/1.png": b"second",
            "a/1.json": {"question": "What is it?", "answer": "a cat", "width": 3},
            "a/2.jpg": b"without a caption",
            "a/3.txt": b"without a picture",
        },
    )
    _shard(shards / "train-001.tar", {"a/0.wav": b"third", "a/0.json": {"captions": ["rain", "water"]}})
    code, out, err = epalm("data", "import", shards, "--output", tmp_path / "rows.jsonl")
    assert (code, err) == (0, "")
    assert out == (
        f"{tmp_path / 'rows.jsonl'}: 3 rows; 1 left out: has no caption, and no question with an answer; "
        "1 left out: has no media file\n"
    )
    dog, cat, rain = read_manifest(tmp_path / "rows.jsonl")
    assert (dog.id, dog.targets, dog.media["image"].read_bytes()) == ("train-000/a/0", ("A dog runs",), b"first")
    assert (cat.question, cat.targets, cat.media["image"].suffix) == ("What is it?", ("a cat",), ".png")
    assert (rain.targets, rain.media["audio"].read_bytes()) == (("rain", "water"), b"third")
    assert len(list((tmp_path / "rows").rglob("*.*"))) == 3


def test_names_in_a_shard_lead_nowhere_else(tmp_path, epalm):
    _shard(tmp_path / "s.tar", {"../../x/up.jpg": b"x", "../../x/up.txt": b"a caption"})
    assert epalm("data", "import", tmp_path / "s.tar", "--output", tmp_path / "out" / "r.jsonl").code == 2
    (tmp_path / "out").mkdir()
    assert epalm("data", "import", tmp_path / "s.tar", "--output", tmp_path / "out" / "r.jsonl").code == 0
    (row,) = read_manifest(tmp_path / "out" / "r.jsonl")
    assert (tmp_path / "out" / "r" / "s").resolve() == row.media["image"].parent.resolve()


def test_names_that_differ_by_odd_signs_alone_keep_their_files(tmp_path, epalm):
    files = {name: name.encode() for name in ("a b.jpg", "a+b.jpg", "a_b.jpg")}
    texts = {name.replace("jpg", "txt"): b"a caption" for name in files}
    _shard(tmp_path / "s.tar", dict(sorted((files | texts).items())))
    assert epalm("data", "import", tmp_path / "s.tar", "--output", tmp_path / "rows.jsonl").code == 0
    rows = read_manifest(tmp_path / "rows.jsonl")
    assert {row.id: row.media["image"].read_bytes() for row in rows} == {
        f"s/{name.removesuffix('.jpg')}": content for name, content in files.items()
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [("0.jpg", b"x"), ("0.txt", b"a"), ("1.jpg", b"y"), ("1.txt", b"b"), ("0.jpg", b"z"), ("0.txt", b"c")],
            "sample 0 comes back after others; pack the files of a sample side by side, as `tar --sort=name` does",
        ),
        ([("0.jpg", b"x"), ("0.txt", b"a"), ("0.jpg", b"z")], "sample 0 has two files '0.jpg'; keep one"),
        ([("0.jpg", b"x"), ("0.png", b"z")], "sample 0 has two files of image, .jpg and .png; keep one"),
        ([("0.jpg", b"x"), ("0.json", "a dog")], "sample 0 has JSON that is no object; write one, such as"),
        ([("0.jpg", b"x"), ("0.json", [["text", "a dog"]])], "sample 0 has JSON that is no object; write one, such as"),
    ],
)
def test_samples_that_are_not_as_they_should_be(tmp_path, refused, files, message):
    _shard(tmp_path / "s.tar", files)
    refusal = refused("data", "import", tmp_path / "s.tar", "--output", tmp_path / "rows.jsonl")
    assert refusal.startswith(f"epalm: {tmp_path / 's.tar'}: {message}")
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_table_of_one_line_and_one_without_objects(tmp_path, epalm, refused):
    fill(tmp_path / "one", {"metadata.jsonl": '{"file_name": "0.png", "text": "a dog"}\n'}, ["0.png"])
    command = ("data", "import", tmp_path / "one", "--output", tmp_path / "rows.jsonl")
    assert epalm(*command).code == 0
    (row,) = read_manifest(tmp_path / "rows.jsonl")
    assert row.targets == ("a dog",)
    fill(tmp_path / "one", {"metadata.jsonl": '"0.png"\n"1.png"\n'})
    assert "metadata.jsonl: not every line is an object; write lines such as" in refused(*command)


def test_folders_with_metadata(tmp_path, epalm):
    lines = [{"file_name": "0.png", "text": "a dog"}, {"file_name": "gone.png", "text": "x"}, {"file_name": "0.png"}]
    fill(
        tmp_path / "pictures",
        {
            "train/metadata.jsonl": "\n".join(map(json.dumps, lines)),
            "test/metadata.csv": 'file_name,question,answer\n1.png,what?,"a cat, black"\n',
        },
        ["train/0.png", "test/1.png"],
    )
    code, out, _ = epalm("data", "import", tmp_path / "pictures", "--output", tmp_path / "rows.jsonl")
    assert code == 0
    assert "2 rows; 1 left out: its file is not there; 1 left out: has no caption" in out
    rows = read_manifest(tmp_path / "rows.jsonl")
    assert {(row.question, row.targets) for row in rows} == {("what?", ("a cat, black",)), (None, ("a dog",))}


def test_answers_need_not_be_texts(tmp_path, epalm):
    answers = (3, [2, "two"], [{"answer": "a cat", "answer_id": 1}], {"raw": "a dog"}, None, {"other": "x"})
    files = {f"{i}.jpg": b"picture" for i in range(len(answers))}
    for i, answer in enumerate(answers):
        files[f"{i}.json"] = {"question": "what?", "answer": answer}
    _shard(tmp_path / "s.tar", dict(sorted(files.items())))
    assert epalm("data", "import", tmp_path / "s.tar", "--output", tmp_path / "rows.jsonl").code == 0
    rows = read_manifest(tmp_path / "rows.jsonl")
    assert [row.targets for row in rows] == [("3",), ("2", "two"), ("a cat",), ("a dog",)]


def test_what_cannot_be_imported(tmp_path, refused):
    output = tmp_path / "rows.jsonl"
    assert "no such file or directory" in refused("data", "import", tmp_path / "none", "--output", output)
    assert "holds neither .tar shards nor metadata.jsonl" in refused("data", "import", tmp_path, "--output", output)
    (tmp_path / "s.tar").write_bytes(b"no tar" * 200)
    assert "s.tar: is damaged, or no tar file" in refused("data", "import", tmp_path / "s.tar", "--output", output)
    _shard(tmp_path / "s.tar", {"0.jpg": b"x"})
    bare = refused("data", "import", tmp_path / "s.tar", "--output", tmp_path / "rows")
    assert "rows has no file extension; write" in bare
    (tmp_path / "rows").mkdir()
    (tmp_path / "s.tar").rename(tmp_path / "rows" / "s.tar")
    assert "media would be put into" in refused("data", "import", tmp_path / "rows", "--output", output)
    (tmp_path / "rows" / "s.tar").rename(tmp_path / "s.tar")
    assert "no sample can be used: 0 rows; 1 left out" in refused(
        "data", "import", tmp_path / "s.tar", "--output", output
    )
    refusal = refused("data", "import", tmp_path / "s.tar", "--split", "train", "--output", output)
    assert "--split is for Arrow and Parquet files" in refusal
    assert not output.exists()
