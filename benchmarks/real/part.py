"""One part of the plan, from files to scores: which commands of epalm are run, and what came of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.real.commands import Record, Step, Steps, digest_of, write_json
from benchmarks.real.floors import best_sentence
from benchmarks.real.plan import LANGUAGE_MODEL, Part
from benchmarks.real.probes import neighbours_captions, probe_answers
from benchmarks.real.rows import PHOTOGRAPHS, manifest, rows_of, write_rows, write_shuffled
from benchmarks.real.sheet import draw_sheet
from epalm.data.rows import Row
from epalm.errors import ConfigError
from epalm.metrics import score_split
from epalm.recipe import Recipe
from epalm.runtime.outputs import write_whole

RESULT = "result.json"
"""What came of a part, in its directory."""
DEFAULTS = "defaults.json"
"""Every setting of epalm by default: where one has changed, the part is run anew."""
_QUICK_STEPS = 4


@dataclass(frozen=True)
class Inputs:
    """Where everything is."""

    backbones: Path
    data: Path
    output: Path
    features: Path | None = None
    """Directory of ready features, `flickr8k-mini-train.npz` and so on."""
    feature_tool: str | None = None
    """Command that makes such a file: it is given a manifest, and the file to write."""
    quick: bool = False

    @property
    def cache(self) -> Path:
        """Where features are kept, so that those of an earlier run elsewhere are not found and times are honest."""
        return self.output / "cache"

    def backbone(self, name: str) -> str:
        """Directory of a backbone; those of the toy world come with the package.

        Raises:
            ConfigError: it is not there.
        """
        if name.startswith("toyworld/"):
            return name
        path = self.backbones / name
        if not (path / "config.json").is_file():
            raise ConfigError(f"BACKBONES: there is no {path} with a model; docs/real.md says what is to lie there")
        return str(path.absolute())

    def why_without_features(self) -> str | None:
        """Why no ready features can be had; None where they can."""
        if self.features or self.feature_tool:
            return None
        return "it takes ready features; give FEATURES=DIR or FEATURE_TOOL=COMMAND, see docs/real.md"


@dataclass
class Result:
    """What came of a part, for the tables."""

    key: str
    """Of the plan, the rows and the defaults."""
    part: dict[str, Any]
    rows: int
    held_out: int
    steps: int
    trained_parameters: int
    trained_share: float
    training: dict[str, Any]
    """The record of the training's command: time, memory, threads."""
    perceiving: dict[str, Any] | None
    """That of making or importing features."""
    metric: str
    score: dict[str, float]
    """Value, low and high; so are all other scores."""
    groups: dict[str, dict[str, Any]]
    perception: dict[str, Any] | None
    shuffled: dict[str, float] = field(default_factory=dict)
    blind: dict[str, float] | None = None
    blind_training: dict[str, Any] | None = None
    fixed: dict[str, float] | None = None
    fixed_sentence: str = ""
    features_alone: dict[str, float] | None = None
    """Linear probes, or captions of the nearest training photographs."""
    features_alone_groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    quick: bool = False


def read_result(folder: Path) -> Result | None:
    """What came of the part in a directory; None where it is not finished."""
    path = folder / RESULT
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def run_part(part: Part, inputs: Inputs) -> Result:
    """Train and score one part; what was done before is not done again.

    Raises:
        ConfigError: a backbone, data or features are not there.
        CommandError: a command failed.
        StoppedError: a signal came.
    """
    return _Run(part, inputs).run()


class _Run:
    """The steps of one part."""

    def __init__(self, part: Part, inputs: Inputs) -> None:
        self.part, self.inputs = part, inputs
        self.folder = inputs.output / part.name
        self.steps = Steps(self.folder, {"EPALM_CACHE": str(inputs.cache.absolute())})
        self.metric = "cider" if part.group == "photographs" else "exact_match"

    def run(self) -> Result:
        part, folder = self.part, self.folder
        train, held_out = rows_of(part, self.inputs.data, quick=self.inputs.quick)
        write_rows(folder, train, held_out)
        self._write_recipe()
        key = digest_of(
            *(folder / name for name in ("train.jsonl", "held_out.jsonl", "recipe.yaml", DEFAULTS)), str(part)
        )
        if (finished := read_result(folder)) is not None and finished.key == key:
            return finished
        write_shuffled(folder, held_out)
        perceiving = self._perceive()
        training = self._train("adapter", *part.settings)
        learned = json.loads((folder / "adapter.json").read_text(encoding="utf-8"))
        scores = self._evaluate("adapter", "held_out")
        task = next(iter(scores["details"]))
        result = Result(
            key=key,
            part=asdict(part) | {"name": part.name},
            rows=len(train),
            held_out=len(held_out),
            steps=learned["steps"],
            trained_parameters=learned["trained_parameters"],
            trained_share=learned["trained_share"],
            training=asdict(training),
            perceiving=asdict(perceiving),
            metric=self.metric,
            score=scores["details"][task]["scores"][self.metric],
            groups=scores["details"][task].get("groups", {}),
            perception=scores.get("perception_gain"),
            quick=self.inputs.quick,
        )
        if not part.development:
            self._compare(result, task, train, held_out)
        write_json(folder / RESULT, asdict(result))
        return result

    def _compare(self, result: Result, task: str, train: Sequence[Row], held_out: Sequence[Row]) -> None:
        """What is scored beside the adapter: another's input, no perception, and the features alone."""
        result.shuffled = self._evaluate("adapter", "shuffled")["details"][task]["scores"][self.metric]
        if self.part.blind:
            result.blind_training = asdict(self._train("blind", "--adapter.preset", "text_only"))
            result.blind = self._evaluate("blind", "held_out")["details"][task]["scores"][self.metric]
        if self.part.group == "photographs":
            self._caption_floors(result, train, held_out)
            draw_sheet(self.folder / "scores" / "predictions.jsonl", self.folder / "contact_sheet.png")
        else:
            self._probe(result, train, held_out)

    def _write_recipe(self) -> None:
        """The backbones, and nothing else: everything is as epalm has it by default, which is kept beside it."""
        write_json(self.folder / DEFAULTS, Recipe().model_dump(mode="json"))
        model: dict[str, Any] = {"language_model": self.inputs.backbone(LANGUAGE_MODEL)}
        recipe: dict[str, Any] = {"model": model}
        if self.part.encoder is not None:
            model["encoders"] = {self.part.modality: self.inputs.backbone(self.part.encoder)}
        else:
            recipe["data"] = {"features": {self.part.modality: "features"}}  # beside the recipe
        write_whole(self.folder / "recipe.yaml", [yaml.safe_dump(recipe, sort_keys=False)], "OUTPUT")

    def _perceive(self) -> Record:
        """Have the features of all files, so that training and scoring find them."""
        folder = self.folder
        rows = [folder / "train.jsonl", folder / "held_out.jsonl"]
        if self.part.features is not None:
            return self._import(self.part.features)
        command = ["epalm", "features", "build", str(folder / "recipe.yaml"), "--data.train", str(rows[0])]
        command += ["--data.validation", str(rows[1]), "--json", str(folder / "features.json")]
        return self.steps.run(Step("features", [command], folder / "features.json", [*rows, folder / "recipe.yaml"]))

    def _import(self, made_by: str) -> Record:
        """Make a store of the ready features."""
        names = [(name, split) for name in PHOTOGRAPHS for split in ("train", "val")]
        files = [self._ready_features(name, split) for name, split in names]
        store = self.folder / "features"
        commands = [
            ["epalm", "features", "import", str(file), "--output", str(store), "--made-by", made_by] for file in files
        ]
        return self.steps.run(Step("features", commands, store, files))

    def _ready_features(self, name: str, split: str) -> Path:
        """The file with the features of one manifest, made now if need be."""
        file = f"{name}-{split}.npz"
        if self.inputs.features is not None:
            path = self.inputs.features / file
            if not path.is_file():
                raise ConfigError(f"FEATURES: there is no {path}; docs/real.md says what is to lie there")
            return path
        if self.inputs.feature_tool is None:
            raise ConfigError(f"{self.part.name}: {self.inputs.why_without_features()}")
        path = self.inputs.output / "ready-features" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        source = manifest(self.inputs.data, f"{name}/{split}.jsonl")
        command = [*shlex.split(self.inputs.feature_tool), str(source), str(path)]
        self.steps.run(Step(f"make {file}", [command], path, [source]))
        return path

    def _train(self, name: str, *settings: str) -> Record:
        folder = self.folder
        recipe, rows = folder / "recipe.yaml", folder / "train.jsonl"
        command = ["epalm", "train", str(recipe), "--data.train", str(rows), "--output", str(folder / name)]
        command += ["--training.seed", str(self.part.seed), "--json", str(folder / f"{name}.json"), *settings]
        command += ["--training.steps", str(_QUICK_STEPS)] if self.inputs.quick else []
        reads = [recipe, rows, folder / DEFAULTS]
        return self.steps.run(Step(f"train {name}", [command], folder / name, reads, is_training=True))

    def _evaluate(self, adapter: str, rows: str) -> dict[str, Any]:
        """Score an adapter on `held_out` or `shuffled` rows; what `scores.json` holds."""
        folder = self.folder
        made = folder / {("adapter", "held_out"): "scores"}.get((adapter, rows), f"scores-{adapter}-{rows}")
        command = ["epalm", "evaluate", str(folder / adapter), "--data", str(folder / f"{rows}.jsonl")]
        command += ["--output", str(made), "--no-java"]
        command += ["--generation.num_beams", "1", "--generation.max_new_tokens", "4"] if self.part.development else []
        if adapter != "blind" and self.part.features is not None:
            command += [f"--data.features.{self.part.modality}", str(folder / "features")]
        elif adapter != "blind":
            command += ["--data.store", str(self.inputs.cache / "features")]
        reads = [folder / f"{rows}.jsonl", folder / adapter / "adapter_model.safetensors", folder / DEFAULTS]
        self.steps.run(Step(f"evaluate {adapter} on {rows}", [command], made, reads))
        found: dict[str, Any] = json.loads((made / "scores.json").read_text(encoding="utf-8"))
        return found

    def _caption_floors(self, result: Result, train: Sequence[Row], held_out: Sequence[Row]) -> None:
        """What captions score that come of no adapter."""
        kept, key = self.folder / "fixed.json", digest_of(self.folder / "train.jsonl", self.folder / "held_out.jsonl")
        found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        if found.get("key") != key:
            found = {"key": key, "sentence": best_sentence(train, held_out)}
            write_json(kept, found)
        result.fixed_sentence = found["sentence"]
        result.fixed = self._score("fixed", [result.fixed_sentence] * len(held_out))
        captions = neighbours_captions(train, held_out, self.folder / "features")
        result.features_alone = self._score("nearest", captions)

    def _score(self, name: str, captions: Sequence[str]) -> dict[str, float]:
        """Captions of the rows held out, scored."""
        folder = self.folder
        predictions, references, scores = (
            folder / file for file in (f"{name}.jsonl", "held_out.jsonl", f"{name}-scores.json")
        )
        lines = (json.dumps({"id": str(i), "prediction": text}) + "\n" for i, text in enumerate(captions, start=1))
        write_whole(predictions, lines, "OUTPUT")
        command = ["epalm", "score", str(predictions), str(references), "--metric", self.metric]
        command += ["--tokenizer", "python", "--json", str(scores)]
        self.steps.run(Step(f"score {name}", [command], scores, [predictions, references]))
        found: dict[str, float] = json.loads(scores.read_text(encoding="utf-8"))["scores"][self.metric]
        return found

    def _probe(self, result: Result, train: Sequence[Row], held_out: Sequence[Row]) -> None:
        """What the same features give to linear probes."""
        built = json.loads((self.folder / "features.json").read_text(encoding="utf-8"))["stores"]
        answers = probe_answers(train, held_out, Path(built[0]["store"]))
        scores = score_split(
            [self.metric],
            answers,
            [row.targets for row in held_out],
            groups=[row.groups for row in held_out],
        ).as_dict()
        result.features_alone = scores["scores"][self.metric]
        result.features_alone_groups = scores.get("groups", {})
