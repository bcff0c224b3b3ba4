"""What an earlier version wrote is read unchanged: an adapter, a checkpoint, a feature store (golden/README.md)."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from epalm import Answerer
from epalm.data.store import FeatureStore
from epalm.recipe import read_recipe
from epalm.tasks.template import FORMER_TEXT
from epalm.training import run_recipe

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all of it, in which one stands, as where it was written."""
    shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    return tmp_path / "golden"


def test_an_adapter_on_a_store(place: Path) -> None:
    settings = {"model.language_model": "language_model", "data.features": {"image": "features"}}
    answerer = Answerer.load("adapter", settings)
    rows = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    assert FORMER_TEXT.items() <= answerer.tasks.template.model_dump().items()  # what it does not name, it had not
    answers = [answerer.ask(row["image"], row["question"]) for row in rows]
    assert answers == EXPECTED["answers"] == [row["answer"] for row in rows]


def test_a_store(place: Path) -> None:
    store = FeatureStore(place / "features")
    assert (len(store), store.description.shape, store.description.dtype) == (6, (2, 8), "float32")


def test_a_checkpoint_is_gone_on_with(place: Path) -> None:
    """The run ends as the one that was never stopped: same losses, same adapter."""
    checkpoint = place / "out" / "checkpoints" / "step-00000050"
    shutil.copytree(place / "checkpoint", checkpoint)
    state = json.loads((checkpoint / "state.json").read_text())
    state["identity"]["model.language_model"] = str(place / "language_model")  # it lies elsewhere now
    (checkpoint / "state.json").write_text(json.dumps(state))
    sums = json.loads((checkpoint / "checksums.json").read_text())
    sums["state.json"] = hashlib.sha256((checkpoint / "state.json").read_bytes()).hexdigest()
    (checkpoint / "checksums.json").write_text(json.dumps(sums))

    result = run_recipe(read_recipe("recipe.yaml", {"output": "out"}), resume=True)
    assert result.log.losses == pytest.approx(EXPECTED["losses"], rel=1e-3)
    tensors, expected = load_file(place / "out" / WEIGHTS), load_file(place / "adapter" / WEIGHTS)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.allclose(expected[name], rtol=1e-3, atol=1e-4), name
