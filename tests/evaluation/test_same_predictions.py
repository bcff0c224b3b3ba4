"""The same adapter says the same: in any batch, in one process or two, with features kept or not.

Captions, answers and ranked answers; of pictures, and of sounds of many lengths, whose windows (AST) or samples
(wav2vec 2.0) are padded in a batch, as questions are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_watchers
import yaml

from epalm.cli import run

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")

SCRIPT = Path(__file__).parent / "evaluations_script.py"
SECONDS = (0.1, 0.3, 0.55, 0.64, 0.9, 1.5)
ANSWERS = [*(f"{a}{b}" for a in "abgrw" for b in "abglortwz"), "a white bus"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> Path:
    """An adapter for each listener, rows to answer, and the answers that there are."""
    folder = tmp_path_factory.mktemp("same")
    tiny.save_pictures(folder / "pictures")
    files = [{"image": f"pictures/{name}.png"} for name in tiny.COLOURS]
    for number, seconds in enumerate(SECONDS):
        sound = tiny_watchers.sound(number, int(seconds * tiny_watchers.RATE))
        soundfile.write(folder / f"{number}.wav", sound, tiny_watchers.RATE, subtype="FLOAT")
        files.append({"audio": f"{number}.wav"})
    asked = [
        {**files[i % len(files)], "question": "is it" + " so" * (i * i % 9) + f" {i}?", "answer": "r"}
        for i in range(20)
    ]
    tiny.write_lines(folder / "held.jsonl", [*asked, *({**file, "caption": "red"} for file in files)])
    tiny.write_lines(folder / "rows.jsonl", [{**file, "question": "which?", "answer": "r"} for file in files])
    (folder / "answers.txt").write_text("\n".join(ANSWERS))
    for name in ("ast", "wav2vec2"):
        values = tiny.recipe_values(backbones, "opt", seed=3, steps=2)
        values["model"]["encoders"]["audio"] = str(tiny_watchers.save(name, folder / f"listener-{name}"))
        values["model"]["long_sounds"] = "windows"
        values["data"] = {"train": str(folder / "rows.jsonl"), "store": False}
        values["generation"] = {"num_beams": 3, "max_new_tokens": 9}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
        assert run(["train", str(folder / f"{name}.yaml"), "--output", str(folder / name)]) == 0
    return folder


def command(folder: Path, processes: int, listener: str, saying: str, size: int, store: str) -> list[str]:
    """An evaluation, whose directory is named after all that must not matter."""
    settings = {
        "data": folder / "held.jsonl",
        "output": folder / f"{processes}-{listener}-{saying}-{size}-{store}",
        "generation.batch_size": size,
        "data.perception_batch": size,
        "data.store": store if store == "false" else folder / f"store-{processes}-{listener}-{saying}-{size}",
        **({"generation.answers": folder / "answers.txt"} if saying == "ranked" else {}),
    }
    listed = (str(one) for k, v in settings.items() for one in (f"--{k}", v))
    return ["evaluate", str(folder / listener), "--no-java", *listed]


def in_two_processes(folder: Path, commands: list[list[str]]) -> None:
    """Run commands by two processes that were launched for all of them."""
    (folder / "commands.json").write_text(json.dumps(commands))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(SCRIPT), str(folder / "commands.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(folder: Path) -> dict[str, float]:
    """Of the right input, of another's, and without one."""
    found: dict[str, float] = json.loads((folder / "scores.json").read_text())["perception_gain"]["loss"]
    return found


def result(folder: Path) -> tuple[bytes, Any]:
    """Predictions to the byte, and scores with their intervals."""
    scores = json.loads((folder / "scores.json").read_text())
    return (folder / "predictions.jsonl").read_bytes(), (scores["scores"], scores["details"], scores["rows"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listener", "saying"), [("ast", "generated"), ("wav2vec2", "generated"), ("wav2vec2", "ranked")]
)
def test_nothing_but_adapter_and_rows_decides(folder: Path, listener: str, saying: str) -> None:
    ways = [(listener, saying, size, store) for size in (1, 7, 64) for store in ("kept", "false")]
    for way in ways:
        assert run(command(folder, 1, *way)) == 0
    in_two_processes(folder, [command(folder, 2, *way) for way in ways])
    found = {path.name: result(path) for path in folder.glob(f"[12]-{listener}-{saying}-*")}
    assert len(found) == 12
    one = found[f"1-{listener}-{saying}-1-false"]
    assert [name for name, other in found.items() if other != one] == []
    expected = losses(folder / f"1-{listener}-{saying}-1-false")
    assert all(losses(folder / name) == pytest.approx(expected, rel=1e-5) for name in found)
    assert len(set(expected.values())) == 3

    rows = [json.loads(line) for line in one[0].splitlines()]
    said = {kind: {row["prediction"] for row in rows if kind in row} for kind in ("image", "audio", "question")}
    assert len(rows) == 30
    assert all(len(texts) > 3 for texts in said.values())  # what never varies would prove nothing
    assert (said["question"] <= set(ANSWERS)) == (saying == "ranked")
