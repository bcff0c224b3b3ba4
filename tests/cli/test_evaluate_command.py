"""`epalm evaluate`: scores, predictions, and the files they go to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny

Command = Callable[..., Any]
Refused = Callable[..., str]


def test_a_test_split_is_answered_without_scores(adapter: Path, epalm: Command, refused: Refused) -> None:
    rows = tiny.questions()
    tiny.write_lines(Path("test.jsonl"), [{k: v for k, v in row.items() if k != "answer"} for row in rows])
    evaluate = ("evaluate", adapter, "--data", "test.jsonl")
    assert "test.jsonl, row 1: has no answer" in refused(*evaluate)
    done = epalm(*evaluate, "--predictions", "p.jsonl", "--json", "s.json")
    assert done.code == 0
    assert done.out == "question_answering (4 rows): not scored, its rows have no answers\n"
    assert json.loads(Path("s.json").read_text())["scores"] == {}
    assert len(Path("p.jsonl").read_text().splitlines()) == 4
    assert epalm(*evaluate, "--predictions", "p.json", "--results", "vqa").code == 0
    answers = json.loads(Path("p.json").read_text())
    assert [(list(answer), answer["question_id"]) for answer in answers] == [
        (["question_id", "answer"], number) for number in (1, 2, 3, 4)
    ]
    assert "unknown format 'xml' of results" in refused(*evaluate, "--predictions", "p.json", "--results", "xml")
    assert "name a file for them with --predictions" in refused(*evaluate, "--results", "vqa")
    tiny.write_lines(Path("test.jsonl"), [*rows, {"image": "pictures/red.png", "question": "and now?"}])
    assert "test.jsonl, row 5: has no answer or caption, but other rows have" in refused(
        *evaluate, "--predictions", "p.jsonl"
    )


def test_evaluation_names_rows(adapter: Path, refused: Refused) -> None:
    tiny.write_lines(
        Path("long.jsonl"), [*tiny.questions(), {"image": "pictures/red.png", "question": "y" * 80, "answer": "a"}]
    )
    assert "long.jsonl, row 5: its text is 81 tokens long" in refused("evaluate", adapter, "--data", "long.jsonl")
    tiny.write_lines(Path("audio.jsonl"), [{"audio": "pictures/red.png", "question": "what?", "answer": "a"}])
    assert "audio.jsonl, row 1: brings audio" in refused("evaluate", adapter, "--data", "audio.jsonl")


def test_results_that_cannot_be_written_are_found_before_the_work(adapter: Path, refused: Refused) -> None:
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out", "--json")
    evaluate = ("evaluate", adapter, "--data", "questions.jsonl")
    rows = Path("questions.jsonl").read_text()
    for command in (train, (*evaluate, "--json"), (*evaluate, "--predictions")):
        option = command[-1]
        assert f"{option}: there is no directory none" in refused(*command, "none/out.json")
        assert f"{option}: pictures is a directory" in refused(*command, "pictures")
        assert f"{option}: there is no directory questions.jsonl" in refused(*command, "questions.jsonl/x")
        assert f"{option}: questions.jsonl is where" in refused(*command, "questions.jsonl")
        assert "File name too long" in refused(*command, "x" * 300)
        assert "/proc/x.json cannot be written" in refused(*command, "/proc/x.json")
    Path("link.jsonl").symlink_to("questions.jsonl")
    for other in ("pictures/../questions.jsonl", "link.jsonl"):
        assert f"--json: {other} is where --data is" in refused(
            "evaluate", "adapter", "--data", "questions.jsonl", "--json", other
        )
    assert "--json: recipe.yaml is where RECIPE is" in refused(*train, "recipe.yaml")
    held_out = ("--data.validation", "captions.jsonl")
    assert "--json: captions.jsonl is where data.validation is" in refused(*train, "captions.jsonl", *held_out)
    assert "--json: out/run.json is where --output is" in refused(*train, "out/run.json")
    assert "--predictions: a.json is where --json is" in refused(
        *evaluate, "--json", "a.json", "--predictions", "a.json"
    )
    assert Path("questions.jsonl").read_text() == rows
    assert not Path("out").exists()
    assert sorted(path.name for path in Path().iterdir() if path.name.startswith(".")) == []


def test_results_go_through_pipes_and_links(adapter: Path, epalm: Command) -> None:
    Path("old.json").write_text("old")
    Path("link.json").symlink_to("old.json")
    evaluate = ("evaluate", adapter, "--data", "questions.jsonl", "--json")
    assert epalm(*evaluate, "link.json").code == 0
    assert Path("link.json").is_symlink()
    assert json.loads(Path("old.json").read_text())["rows"] == {"question_answering": 4}
    assert epalm(*evaluate, "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
