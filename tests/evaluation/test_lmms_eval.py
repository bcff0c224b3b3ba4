"""An adapter behind lmms-eval's interface answers as it does by itself.

Where lmms-eval is not installed, its base class stands in as documented: three abstract methods, a dict of the tasks'
data sets, requests with six arguments.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from PIL import Image
from pyarrow import parquet

from epalm.errors import DataError, UnsupportedModelError
from epalm.evaluation import Answerer

MODULE = "epalm.evaluation.lmms_eval"
TASK = """
task: fake
dataset_path: parquet
dataset_kwargs: {data_files: {test: fake.parquet}}
test_split: test
output_type: generate_until
doc_to_visual: !function shown.picture
doc_to_text: "{{question}}\\nBe brief."
doc_to_target: answer
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
SHOWN = """
def picture(doc):
    return [doc["image"]]
"""


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
        Request((context.format(**document), second, lambda doc: [doc["picture"]], number, "fake", "test"))
        for number, document in enumerate(documents)
    ]


def test_a_task_gets_the_adapters_answers(module: Any, adapter: Path, task: list[dict[str, Any]]) -> None:
    model = module.LmmsEvalModel(str(adapter), batch_size="3", device="cpu")
    model.task_dict["fake"] = {"test": task}
    alone = Answerer.load(adapter, {"model.device": "cpu"})
    files = [f"pictures/{name}.png" for name in tiny.COLOURS]
    expected = [alone.ask(file, document["question"]) for file, document in zip(files, task, strict=True)]
    assert model.generate_until(requests(task, {"max_new_tokens": 1})) == expected
    assert model.generate_until(requests(task, {}, "<image>")) == alone.caption(files)
    end = expected[0][-1]
    cut = model.generate_until(requests(task, {"until": ["nowhere", end]}))
    assert cut == [answer.partition(end)[0] for answer in expected]
    assert model.generate_until(requests(task, {"until": end})) == cut
    model.instructions = True
    asked = [alone.ask(file, f"{document['question']} Be brief.") for file, document in zip(files, task, strict=True)]
    assert model.generate_until(requests(task, {})) == asked


@torch.no_grad()
def test_continuations_are_weighed(module: Any, adapter: Path, task: list[dict[str, Any]]) -> None:
    model = module.LmmsEvalModel(str(adapter), device="cpu")
    model.task_dict["fake"] = {"test": task}
    weighed = model.loglikelihood(requests(task, lambda doc: doc["answer"]))
    lm, tasks = model.answerer.model, model.answerer.tasks
    question = tasks["question_answering"]
    for (loss, greedy), document in zip(weighed, task, strict=True):
        front = question.prompt_ids(document["question"])
        target = question.tokenizer.target_ids(document["answer"], question.prompt(document["question"]))[:-1]
        encoder = lm.encoders["image"]
        features = encoder.features(encoder.preprocess([np.asarray(document["picture"])]), lm.levels["image"])
        scores = lm(torch.tensor([[*front, *target]]), features=features).logits[0].log_softmax(-1)
        total = sum(float(scores[i - len(target) - 1, token]) for i, token in enumerate(target))
        assert loss == pytest.approx(-total, abs=1e-3)  # the least is the best
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
    with pytest.raises(UnsupportedModelError, match="a request shows nothing"):
        model.loglikelihood([Request(("", "red"))])


@pytest.mark.parametrize("shown", ["picture", "content", "path"])
def test_a_picture_in_any_form(module: Any, adapter: Path, task: list[dict[str, Any]], shown: str) -> None:
    model = module.LmmsEvalModel(str(adapter), device="cpu")
    model.task_dict["fake"] = {"test": task}

    def show(doc: dict[str, Any]) -> list[Any]:
        path = Path("pictures", f"{doc['answer']}.png")
        return [{"picture": doc["picture"], "content": {"bytes": path.read_bytes(), "path": None}, "path": path}[shown]]

    asked = [Request((document["question"], {}, show, i, "fake", "test")) for i, document in enumerate(task)]
    alone = Answerer.load(adapter, {"model.device": "cpu"})
    files = [f"pictures/{document['answer']}.png" for document in task]
    assert model.generate_until(asked) == [
        alone.ask(file, document["question"]) for file, document in zip(files, task, strict=True)
    ]


def test_it_says_where_it_is(module: Any, adapter: Path) -> None:
    assert module.LmmsEvalModel(str(adapter), device="cpu").device == torch.device("cpu")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(ImportError, match=r"pip install \"epalm\[lmms-eval\]\""):
        importlib.import_module(MODULE)


@pytest.mark.slow
def test_the_real_evaluator_scores_a_fake_task(adapter: Path, task: list[dict[str, Any]]) -> None:
    """Found by its entry point; lmms-eval 0.7 itself can score no task of choices, of any model."""
    evaluator = pytest.importorskip("lmms_eval.evaluator", reason="lmms-eval is not installed")
    files = [Path("pictures", f"{document['answer']}.png") for document in task]
    alone = Answerer.load(adapter, {"model.device": "cpu"})
    said = [alone.ask(file, document["question"]) for file, document in zip(files, task, strict=True)]
    rows = [
        {"image": {"bytes": file.read_bytes(), "path": None}, "question": document["question"], "answer": text}
        for file, document, text in zip(files, task, ["something else", *said[1:]], strict=True)
    ]
    text = {"dtype": "string", "_type": "Value"}
    features = {"image": {"_type": "Image"}, "question": text, "answer": text}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), "fake.parquet")
    Path("tasks").mkdir()
    Path("tasks", "fake.yaml").write_text(TASK)
    Path("tasks", "shown.py").write_text(SHOWN)
    done = evaluator.simple_evaluate(
        model="epalm",
        model_args=f"pretrained={adapter}",
        device="cpu",
        batch_size=3,
        tasks=["fake"],
        task_manager=importlib.import_module("lmms_eval.tasks").TaskManager(include_path="tasks"),
        bootstrap_iters=0,
    )
    assert done["results"]["fake"]["exact_match,none"] == 0.75
