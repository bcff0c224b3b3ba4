"""Probes, floors and tables of real trainings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.real.commands import write_json
from benchmarks.real.floors import best_sentence
from benchmarks.real.part import RESULT
from benchmarks.real.probes import classify
from benchmarks.real.sheet import draw_sheet, sheet_in_words
from benchmarks.real.tables import NOT_RUN, TABLES, Results, pooled, write_tables
from epalm.data.rows import Row

SCORE = {"value": 50.0, "low": 25.0, "high": 75.0}
RECORD = {"seconds": 90.0, "cpu_seconds": 150.0, "peak_memory": 1_200_000_000, "threads": 2, "device": "cpu"}


def result(**changes):
    return {
        "key": "", "part": {"seed": 0}, "rows": 300, "held_out": 80, "steps": 80, "trained_parameters": 222_336,
        "trained_share": 0.0016, "training": RECORD, "perceiving": RECORD, "metric": "exact_match", "score": SCORE,
        "groups": {"speaker": {"theo": {"rows": 20, "scores": {"exact_match": SCORE | {"value": 61.0}}}}},
        "perception": {**SCORE, "loss": {"right": 1.0, "shuffled": 2.0, "none": 3.0}}, "shuffled": {"value": 2.0},
        **changes,
    }  # fmt: skip


def write_predictions(folder: Path, said: str, answers: str):
    (folder / "scores").mkdir(parents=True)
    rows = [{"prediction": one, "references": [other]} for one, other in zip(said, answers, strict=True)]
    (folder / "scores" / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_probe_finds_classes_among_more_dimensions_than_rows():
    random = np.random.default_rng(0)
    labels = [name for name in "abcd" for _ in range(15)]
    centres = {name: random.normal(size=200) for name in "abcd"}
    features = np.array([centres[name] + 1.5 * random.normal(size=200) for name in labels])
    features = np.hstack([features, np.ones((60, 1))])  # a constant dimension has no spread
    others = ["d", "a", "c", "b"] * 20
    asked = np.array([np.append(centres[name] + 1.5 * random.normal(size=200), 1) for name in others])
    assert np.mean([one == other for one, other in zip(classify(features, labels, asked), others, strict=True)]) > 0.95
    noise = classify(random.normal(size=(60, 200)), labels, random.normal(size=(80, 200)))
    assert np.mean([one == other for one, other in zip(noise, others, strict=True)]) < 0.5


def test_the_best_sentence_fits_the_rows_held_out_best():
    def row(*captions):
        return Row({"image": Path("a")}, None, captions)

    train = [row("a cat on a mat", "two dogs run on the grass"), row("people sit by the sea")]
    held_out = [row("two dogs run on grass"), row("dogs run on the grass"), row("a boat")]
    assert best_sentence(train, held_out) == "two dogs run on the grass"


def test_seeds_are_pooled_by_row_and_speakers_one_after_the_other(tmp_path):
    write_predictions(tmp_path / "one", "aaaa", "aabb")
    write_predictions(tmp_path / "two", "bbbb", "aabb")
    assert pooled(tmp_path, ["one", "two"], paired=True) == {"value": 50.0, "low": 50.0, "high": 50.0}
    apart = pooled(tmp_path, ["one", "two"], paired=False)
    assert apart["low"] < apart["value"] == 50.0 < apart["high"]


def test_tables_hold_what_is_finished_between_their_marks(tmp_path):
    page, readme = tmp_path / "real.md", tmp_path / "README.md"
    page.write_text("head\n" + "".join(f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->\nmiddle\n" for name in TABLES))
    readme.write_text("<!-- real:begin -->\n<!-- real:end -->\n<!-- demo:begin -->\ndemo\n<!-- demo:end -->\n")
    for seed in range(3):
        folder = tmp_path / f"digits-300-seed{seed}"
        write_predictions(folder, "aaab", "aaaa")
        write_json(folder / RESULT, result(part={"seed": seed}, blind=SCORE | {"value": 11.0} if not seed else None))
    write_tables(Results.read(tmp_path), page, readme)
    text, first = page.read_text(), readme.read_text()
    assert "old" not in text
    assert text.startswith("head\n<!-- real:begin -->\n| task |")
    assert text.count("middle") == len(TABLES)
    line = (
        "| spoken digits | 300 recordings | 3.0 min, 5.0 min of CPU | 0.16 % | 75.0 [25.0, 100.0] % right | 11.0 | 2.0 "
        "| +50.00 [25.00, 75.00] |"
    )
    assert line in text
    assert line in first
    assert f"| photographs, captions | {NOT_RUN} |" in first
    assert first.endswith("<!-- real:end -->\n<!-- demo:begin -->\ndemo\n<!-- demo:end -->\n")
    assert "| 300 | 0 | 50.0 [25.0, 75.0] | | | | 61.0 | 2.0 | |" in text.replace("  ", " ")
    assert "| 300 | mean | 75.0 [25.0, 100.0] |" in text
    assert f"| george | {NOT_RUN} |" in text
    assert "| digits-300-seed1 | 300 | 80 | 1 | 1.5 min | 1.5 min | 2.5 min | 2 | 1.20 GB | 222,336 | 0.160 % |" in text


def test_the_sheet_shows_every_so_manyth_photograph_with_and_without_it(tmp_path):
    lines = []
    for number in range(48):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 60), "red").save(path)
        said = {"prediction": "a | b", "references": [f"person {number} ."]}
        lines.append(json.dumps({"image": str(path), **said}) + "\n")
    (tmp_path / "predictions.jsonl").write_text("".join(lines))
    words = sheet_in_words(tmp_path / "predictions.jsonl").splitlines()
    assert len(words) == 2 + 24
    assert words[3] == "| 2 | 2.png | person 2 | a \\| b |"
    draw_sheet(tmp_path / "predictions.jsonl", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour: count for count, colour in sheet.getcolors(1 << 20)}
        assert colours[255, 0, 0] == 24 * 40 * 60
        assert len(colours) > 3  # words, too


@pytest.mark.parametrize(("page", "names"), [("docs/real.md", (*TABLES, "memory")), ("README.md", ("real", "demo"))])
def test_the_pages_have_the_marks_in_order(page, names):
    text = (Path(__file__).resolve().parents[2] / page).read_text(encoding="utf-8")
    for name in names:
        assert text.count(f"<!-- {name}:begin -->") == text.count(f"<!-- {name}:end -->") == 1
        assert text.index(f"<!-- {name}:begin -->") < text.index(f"<!-- {name}:end -->")
    assert text.index("<!-- real:begin -->") == min(text.index(f"<!-- {name}:begin -->") for name in names)
