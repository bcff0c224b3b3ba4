"""An adapter behind lmms-eval's interface answers as it does by itself.

Where lmms-eval is not installed, its base class stands in as documented: three abstract methods, a dict of the tasks'
data sets, requests with six arguments.
"""

from __future__ import annotations

import importlib
import sys
import types
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from epalm.errors import DataError, UnsupportedModelError
from epalm.evaluation import Answerer

MODULE = "epalm.evaluation.lmms_eval"


class Base(ABC):
    """What lmms-eval documents of `lmms_eval.api.model.lmms`."""

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}

    @abstractmethod
    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]: ...

    @abstractmethod
    def generate_until(self, requests: list[Any]) -> list[str]: ...

    @abstractmethod
    def generate_until_multi_round(self, requests: list[Any]) -> list[str]: ...


class Request(NamedTuple):
    """The part of `lmms_eval.api.instance.Instance` that models read."""

    args: tuple[Any, ...]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ours, on the real base class where there is one."""
    try:
        importlib.import_module("lmms_eval.api.model")
    except ImportError:
        for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setattr(sys.modules["lmms_eval.api.model"], "lmms", Base, raising=False)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    loaded = importlib.import_module(MODULE)
    yield loaded
    sys.modules.pop(MODULE, None)


@pytest.fixture
def adapter(place: Path, epalm: Any) -> Path:
    assert epalm("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "adapter").code == 0
    return Path("adapter")


@pytest.fixture
def task(place: Path) -> list[dict[str, Any]]:
    """A fake task's documents."""
    return [
        {"picture": Image.open(place / "pictures" / f"{name}.png"), "question": f"which {i}?", "answer": name}
        for i, name in enumerate(tiny.COLOURS)
    ]


def requests(
    documents: list[dict[str, Any]], second: Any, context: str = "<image>\n{question}\nBe brief."
) -> list[Any]:
    return [
        Request((context.format(**one), second, lambda doc: [doc["picture"]], number, "fake", "test"))
        for number, one in enumerate(documents)
    ]


def test_a_task_gets_the_adapters_answers(module: Any, adapter: Path, task: list[dict[str, Any]]) -> None:
    model = module.LmmsEvalModel(str(adapter), batch_size="3", device="cpu")
    model.task_dict["fake"] = {"test": task}
    alone = Answerer.load(adapter, {"model.device": "cpu"})
    files = [f"pictures/{name}.png" for name in tiny.COLOURS]
    expected = [alone.ask(file, one["question"]) for file, one in zip(files, task, strict=True)]
    assert model.generate_until(requests(task, {"max_new_tokens": 1})) == expected
    assert model.generate_until(requests(task, {}, "<image>")) == alone.caption(files)
    end = expected[0][-1]
    cut = model.generate_until(requests(task, {"until": ["nowhere", end]}))
    assert cut == [answer.partition(end)[0] for answer in expected]
    assert model.generate_until(requests(task, {"until": end})) == cut
    model.instructions = True
    asked = [alone.ask(file, f"{one['question']} Be brief.") for file, one in zip(files, task, strict=True)]
    assert model.generate_until(requests(task, {})) == asked


@torch.no_grad()
def test_continuations_are_weighed(module: Any, adapter: Path, task: list[dict[str, Any]]) -> None:
    model = module.LmmsEvalModel(str(adapter), device="cpu")
    model.task_dict["fake"] = {"test": task}
    weighed = model.loglikelihood(requests(task, lambda doc: doc["answer"]))
    lm, tasks = model.answerer.model, model.answerer.tasks
    question = tasks["question_answering"]
    for (likelihood, greedy), one in zip(weighed, task, strict=True):
        front = question.prompt_ids(one["question"])
        target = question.spelling.target_ids(one["answer"], question.prompt(one["question"]))[:-1]
        encoder = lm.encoders["image"]
        features = encoder.features(encoder.preprocess([np.asarray(one["picture"])]), lm.levels["image"])
        scores = lm(torch.tensor([[*front, *target]]), features=features).logits[0].log_softmax(-1)
        total = sum(float(scores[i - len(target) - 1, token]) for i, token in enumerate(target))
        assert likelihood == pytest.approx(total, abs=1e-3)
        likeliest = [int(scores[i - len(target) - 1].argmax()) for i in range(len(target))]
        assert greedy == (likeliest == target)


def test_what_cannot_be_served(module: Any, adapter: Path, task: list[dict[str, Any]]) -> None:
    model = module.LmmsEvalModel(str(adapter), device="cpu")
    model.task_dict["fake"] = {"test": task}
    with pytest.raises(UnsupportedModelError, match="holds no conversation"):
        model.generate_until_multi_round([])
    for shown, said in (([1, 2], "shows 2 things"), ([3.5], "shows a float")):
        asked = [Request(("which?", {}, lambda doc, shown=shown: shown, 0, "fake", "test"))]
        with pytest.raises(DataError, match=said):
            model.generate_until(asked)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(ImportError, match=r"pip install \"epalm\[lmms-eval\]\""):
        importlib.import_module(MODULE)


def test_it_is_a_model_of_the_real_package() -> None:
    base = pytest.importorskip("lmms_eval.api.model", reason="lmms-eval is not installed")
    assert issubclass(importlib.import_module(MODULE).LmmsEvalModel, base.lmms)
