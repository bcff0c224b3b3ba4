"""Training files that cannot be read: an error at the first, or left out, counted and listed; never in evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from PIL import Image

Command = Callable[..., Any]

GOOD = 40
TRAIN = ("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output", "adapter")
SKIP = ("--data.on_bad_media", "skip")


@pytest.fixture
def bad(place: Path) -> dict[str, str]:
    """Forty good pictures, two that are not, with two rows each; gives those and why."""
    for number in range(GOOD):
        Image.new("RGB", (8, 8), (6 * number, 90, 90)).save(f"{number}.png")
    Path("empty.png").write_bytes(b"")
    Path("text.jpg").write_text("This is no picture.\n")
    names = [f"{number}.png" for number in range(GOOD)]
    rows = [{"image": name, "question": "which?", "answer": "a"} for name in [*names[:20], "empty.png", *names[20:]]]
    rows += [{"image": name, "captions": ["b", "c"]} for name in ("text.jpg", "empty.png", names[0], "text.jpg")]
    tiny.write_lines(Path("rows.jsonl"), rows)
    return {
        "empty.png": "the file is empty",
        "text.jpg": "not a picture, or not in a format that can be read here; save it as JPEG or PNG",
    }


@pytest.mark.parametrize("store", ["store", "false"])
def test_skipped_rows_are_counted_and_files_listed(
    bad: dict[str, str], place: Path, epalm: Command, store: str
) -> None:
    done = epalm(*TRAIN, *SKIP, "--data.store", store, "--json", "result.json")
    assert done.code == 0, done.err
    assert json.loads(Path("result.json").read_text())["skipped"] == {
        "rows": 4,
        "files": [{"file": name, "reason": reason} for name, reason in bad.items()],
    }
    assert (
        "4 rows skipped, for 2 files that cannot be read:\n"
        "  empty.png: the file is empty\n"
        "  text.jpg: not a picture, or not in a format that can be read here; save it as JPEG or PNG\n"
        "adapter written to adapter"
    ) in done.out
    assert json.loads(Path("adapter/adapter_config.json").read_text())["metadata"]["rows"] == GOOD + 1


def test_what_is_skipped_changes_nothing_else(bad: dict[str, str], place: Path, epalm: Command) -> None:
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    tiny.write_lines(Path("good.jsonl"), [row for row in rows if row["image"] not in bad])
    assert epalm(*TRAIN, *SKIP).code == 0
    assert epalm("train", "recipe.yaml", "--data.train", "good.jsonl", "--output", "same", *SKIP).code == 0
    weights = [Path(folder, "adapter_model.safetensors").read_bytes() for folder in ("adapter", "same")]
    assert weights[0] == weights[1]


def test_nothing_is_said_of_nothing(place: Path, epalm: Command) -> None:
    done = epalm("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "a", *SKIP, "--json", "r.json")
    assert done.code == 0
    assert "skipped" not in done.out + Path("r.json").read_text()


def test_by_default_the_first_is_an_error(bad: dict[str, str], place: Path, refused: Command) -> None:
    assert "epalm: empty.png: the file is empty\n" in refused(*TRAIN)[-60:]
    assert not Path("adapter").exists()


def test_more_than_the_largest_share_is_an_error(bad: dict[str, str], place: Path, epalm: Command) -> None:
    for limit, code in ((0.04, 2), (0.047, 2), (0.048, 0), (0, 2), (1, 0)):
        done = epalm(*TRAIN, *SKIP, "--data.most_bad_media", limit)
        assert done.code == code, (limit, done.err)
    for number in range(5):
        Path(f"{number}.png").write_bytes(b"")
    done = epalm(*TRAIN, *SKIP)
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "epalm: rows.jsonl: 7 of 42 files cannot be read, more than the 5 % that data.most_bad_media allows: "
        "0.png: the file is empty; 1.png: the file is empty; 2.png: the file is empty; and 4 more"
    )


def test_none_left_is_an_error(bad: dict[str, str], place: Path, epalm: Command) -> None:
    for number in range(GOOD):
        Path(f"{number}.png").write_bytes(b"")
    done = epalm(*TRAIN, *SKIP, "--data.most_bad_media", 1)
    assert done.code == 2
    assert "rows.jsonl: 42 of 42 files cannot be read, and no row is left: 0.png: the file is empty" in done.err


def test_a_file_that_is_not_there_is_one_of_them(
    bad: dict[str, str], place: Path, epalm: Command, refused: Any
) -> None:
    Path("text.jpg").unlink()
    assert "1 of 42 media files are missing" in refused(*TRAIN)
    done = epalm(*TRAIN, *SKIP)
    assert done.code == 0, done.err
    assert "  text.jpg: no such file\n" in done.out


def test_an_evaluation_never_skips(bad: dict[str, str], place: Path, epalm: Command) -> None:
    tiny.write_lines(Path("held.jsonl"), [{"image": name, "caption": "b"} for name in ("0.png", "text.jpg")])
    for held, message in (("held.jsonl", "text.jpg: not a picture"), ("rows.jsonl", "empty.png: the file is empty")):
        done = epalm(*TRAIN, *SKIP, "--data.validation", held)
        assert done.code == 2
        assert message in done.err
        assert not Path("adapter").exists()
    assert epalm(*TRAIN, *SKIP).code == 0
    done = epalm("evaluate", "adapter", "--data", "held.jsonl")
    assert done.code == 2
    assert "text.jpg: not a picture" in done.err
    done = epalm("evaluate", "adapter", "--data", "held.jsonl", *SKIP)
    assert (done.code, "has no effect on an adapter that is trained" in done.err) == (2, True)


def test_settings_that_do_not_go_together(place: Path, backbones: Path, refused: Any) -> None:
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "adapter")
    for settings, message in (
        (("--data.views", "null"), "data: views null is a new view at every visit, and none can be kept"),
        (("--data.augment", "crop"), "data: augment crop makes random views; set views"),
        (("--data.mask_sounds", "true"), "data: mask_sounds makes random views; set views"),
        (("--data.mask_sounds", "true", "--data.views", 2), "data.mask_sounds is for sounds, and there is no audio"),
        (("--data.views", 3), "data.views: a picture has one view unless data.augment makes others"),
        (("--data.views", 0), "data.views: Input should be greater than or equal to 1"),
        (("--data.most_bad_media", 1.5), "data.most_bad_media: Input should be less than or equal to 1"),
    ):
        assert message in refused(*train, *settings)
    Path("heard.yaml").write_text(
        yaml.safe_dump(tiny.recipe_values(backbones) | {"model": {"encoders": {"audio": "a"}}})
    )
    settings = ("--data.views", 2, "--data.augment", "flip")
    assert "there is no image encoder" in refused("train", "heard.yaml", *settings)


@pytest.mark.parametrize("views", [("--data.views", 3), ("--data.views", "null", "--data.store", "false")])
def test_views_are_trained_on(place: Path, epalm: Command, views: tuple[object, ...]) -> None:
    """The same seed gives the same adapter; other views give another."""
    for number, name in enumerate(tiny.COLOURS):
        Image.linear_gradient("L").rotate(90 * number).convert("RGB").save(f"pictures/{name}.png")
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output")
    for name, settings in (("one", ("--data.augment", "crop")), ("same", ("--data.augment", "crop"))):
        done = epalm(*train, name, *views, *settings)
        assert done.code == 0, done.err
    assert epalm(*train, "other").code == 0
    one, same, other = (Path(name, "adapter_model.safetensors").read_bytes() for name in ("one", "same", "other"))
    assert one == same != other
