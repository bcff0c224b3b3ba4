"""The demo: a frozen language model learns to see, to watch and to hear, in minutes on two cores.

    python -m epalm.toyworld.demo            (`make demo`)
    python -m epalm.toyworld.demo --long     (`make demo-long`)

For each modality one adapter learns captions and questions together and is asked about things held out; one more,
which starts from those of its modalities, answers what takes two at once. Beside each stands `text_only`: the same
rows, steps and settings without perception. With `--apart` there is also what either of two modalities comes to alone;
with `--default-window` what each comes to where no window is set, so that one late layer of six perceives. Writes
`results.json`, `settings.txt`, `report.html` and its pictures, adapters and all predictions into the output folder.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from epalm.data.file_features import OnProgress, PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.data.rows import Row
from epalm.evaluation import Answerer, Evaluation, score_rows
from epalm.evaluation.scoring import Prediction
from epalm.recipe import Recipe, read_recipe
from epalm.runtime.progress import show_progress
from epalm.toyworld.dataset import read_truths, write_dataset
from epalm.toyworld.report import Shown, draw_contact_sheet, draw_losses, draw_table, write_page
from epalm.toyworld.side_by_side import side_by_side
from epalm.toyworld.worlds import WORLDS
from epalm.training.loop import TrainingLog
from epalm.training.run import load_model, train_on

KINDS = ("image", "video", "audio", "image+audio")
MECHANISMS = ("epalm_pt", "text_only")
_SWITCHES = ("long", "apart", "default_window")
HELD_OUT = 250
SHOWN = 12


@dataclass(frozen=True)
class Budget:
    """How much is drawn and trained; the same for every mechanism."""

    things: int
    """Training pictures, clips, sounds or pairs."""
    steps: int
    """Optimizer steps."""


QUICK = {
    "image": Budget(things=3200, steps=1250),
    "video": Budget(things=2200, steps=850),
    "audio": Budget(things=2000, steps=800),
    "image+audio": Budget(things=3000, steps=800),
}
LONG = {
    "image": Budget(things=9000, steps=4000),
    "video": Budget(things=6000, steps=3000),
    "audio": Budget(things=6000, steps=3000),
    "image+audio": Budget(things=6000, steps=2500),
}


@dataclass(frozen=True)
class Arm:
    """What is trained on the same rows as others, to stand beside them."""

    name: str
    overrides: dict[str, Any]
    """Of the recipe of its kind of things."""
    start_from: tuple[str, ...] = ()
    """Where in the output folder the adapters are that it starts from."""

    @property
    def perceives_otherwise(self) -> bool:
        """Whether it takes other features than the recipe's."""
        return not self.overrides.keys().isdisjoint(("model.encoders", "adapter.levels"))

    @property
    def folder(self) -> str:
        """Where it is kept, in the folder of its kind."""
        return self.name.replace(", ", "-").replace(" ", "-")


def arms(kind: str, *, each_alone: bool = False, default_window: bool = False) -> list[Arm]:
    """All of a kind of things.

    Args:
        kind: one of `KINDS`.
        each_alone: where it takes several modalities, each of them alone as well.
        default_window: where it takes one, also with the window that is the default for any language model.
    """
    encoders = read_recipe(_recipe_of(kind), {}).model.encoders
    if len(encoders) == 1:
        chosen = [Arm(preset, {"adapter.preset": preset}) for preset in MECHANISMS]
        if default_window:
            unset = dict.fromkeys(("adapter.start", "adapter.end", "adapter.levels"))
            chosen.append(Arm(f"{MECHANISMS[0]}, default window", {"adapter.preset": MECHANISMS[0], **unset}))
        return chosen
    learned = {preset: {name: f"{name}/{preset}" for name in encoders} for preset in MECHANISMS}
    chosen = [Arm(preset, {"adapter.preset": preset}, tuple(learned[preset].values())) for preset in MECHANISMS]
    if each_alone:
        preset = MECHANISMS[0]
        chosen += [
            Arm(
                f"{preset}, {name} alone",
                {"adapter.preset": preset, "model.encoders": {name: encoder}},
                (learned[preset][name],),
            )
            for name, encoder in encoders.items()
        ]
    return chosen


def _recipe_of(kind: str) -> str:
    return "toy_" + kind.replace("+", "_")


@dataclass(frozen=True)
class Outcome:
    """One mechanism on one kind of things, trained and scored."""

    kind: str
    mechanism: str
    language_model: str
    log: TrainingLog
    evaluation: Evaluation
    right: dict[str, bool]
    """Of every prediction, by the row's id."""
    trained_parameters: int
    trained_share: float
    summary: str

    def rows(self) -> list[dict[str, Any]]:
        """Its lines of `results.json`."""
        metrics = {"captioning": "attributes_right", "question_answering": "exact_match"}
        rows = []
        for task, metric in metrics.items():
            marks = [self.right[p.row.id] for p in self.evaluation.predictions if p.row.task == task]
            if marks:
                rows.append(
                    {
                        "modality": self.kind,
                        "task": task,
                        "mechanism": self.mechanism,
                        "language_model": self.language_model,
                        "metric": metric,
                        "score": round(100 * sum(marks) / len(marks), 2),
                        "trained_parameters": self.trained_parameters,
                        "trained_share": self.trained_share,
                        "seconds": round(self.log.seconds, 1),
                    }
                )
        return rows


def run(
    output: Path,
    budgets: Mapping[str, Budget],
    seed: int,
    command: str,
    on_progress: OnProgress,
    *,
    language_model: str | None = None,
    each_alone: bool = False,
    default_window: bool = False,
    held_out: int = HELD_OUT,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """The demo of every kind that has a budget, with its `arms`; gives the rows of `results.json`.

    Args:
        output: folder of all that is written.
        budgets: by kind of things; what a kind starts from must have one, too.
        seed: of all that is drawn and trained.
        command: for the page.
        on_progress: told of everything that takes time.
        language_model: another than the recipes name.
        each_alone: see `arms`.
        default_window: see `arms`.
        held_out: things of each kind to be asked about.
        workers: kinds that are under way at the same time, each in a process of its own with its share of the threads.
    """
    started = time.perf_counter()
    tasks = {
        kind: _Task(kind, output / kind, budget, seed, language_model, each_alone, default_window, held_out)
        for kind, budget in budgets.items()
    }
    if workers == 1:
        done = {kind: task.run(on_progress) for kind, task in tasks.items()}
    else:
        done = side_by_side(tasks, workers, on_progress)
    outcomes = [outcome for kind in budgets for outcome in done[kind]]
    results = [row for outcome in outcomes for row in outcome.rows()]
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sizes = "; ".join(
        f"{kind}: {budget.things} to learn from, {budget.steps} steps" for kind, budget in budgets.items()
    )
    seconds = time.perf_counter() - started
    settings = f"{command}\nseed {seed}; {sizes}; {held_out} held out of each\nwhole demo: {seconds:.0f} s"
    (output / "settings.txt").write_text(settings + "\n", encoding="utf-8")
    _report(output, outcomes, results, settings, seed)
    return results


@dataclass(frozen=True)
class _Task:
    """All arms of one kind of things."""

    kind: str
    output: Path
    budget: Budget
    seed: int
    language_model: str | None
    each_alone: bool
    default_window: bool
    held_out: int

    @property
    def starts_from(self) -> set[str]:
        """Kinds that must be done before."""
        return {place.partition("/")[0] for arm in self._arms for place in arm.start_from}

    @property
    def _arms(self) -> list[Arm]:
        return arms(self.kind, each_alone=self.each_alone, default_window=self.default_window)

    def run(self, on_progress: OnProgress) -> list[Outcome]:
        """Draw, train and score."""
        training, held_out = self.output / "data" / "training", self.output / "data" / "held_out"
        on_progress(f"{self.kind} drawing", 0, 1)
        write_dataset(training, self.budget.things, seed=self.seed, kind=self.kind)
        write_dataset(
            held_out, self.held_out, seed=self.seed + 1, kind=self.kind, held_out=True, captions=1, questions=4
        )
        on_progress(f"{self.kind} drawing", 1, 1)
        rows, asked = read_manifest(training / "all.jsonl"), read_manifest(held_out / "all.jsonl")
        outcomes: list[Outcome] = []
        kept: PerceivedFiles | None = None
        named = {} if self.language_model is None else {"model.language_model": self.language_model}
        for arm in self._arms:
            settings = {
                **named,
                **arm.overrides,
                "training.seed": self.seed,
                "training.steps": self.budget.steps,
                "training.start_from": [str(self.output.parent / place) for place in arm.start_from],
            }
            recipe = read_recipe(_recipe_of(self.kind), settings)
            reused = None if arm.perceives_otherwise else kept
            outcome, perceived = _train_and_score(
                self.kind, arm.name, recipe, rows, asked, held_out, self.output / arm.folder, reused, on_progress
            )
            kept = kept or perceived
            outcomes.append(outcome)
        return outcomes


def _train_and_score(
    kind: str,
    mechanism: str,
    recipe: Recipe,
    rows: Sequence[Row],
    asked: Sequence[Row],
    held_out: Path,
    output: Path,
    kept: PerceivedFiles | None,
    on_progress: OnProgress,
) -> tuple[Outcome, PerceivedFiles]:
    """Train one mechanism and score it; features that are kept already are not perceived again."""

    def report(what: str, done: int, total: int) -> None:
        on_progress(f"{kind} {mechanism} {what}", done, total)

    model = load_model(recipe)
    perceived = kept or PerceivedFiles.of_model(model)
    log = train_on(model, rows, recipe, perceived, report)
    model.save_pretrained(output, {"text": recipe.text.model_dump(), "generation": recipe.generation.model_dump()})
    answerer = Answerer(model, recipe.text, recipe.generation, perceived)
    evaluation = score_rows(answerer, asked, report, java=False, perception=False)
    evaluation.write_predictions(output / "predictions.jsonl")
    summary = model.summary()
    right = _judged(kind, evaluation.predictions, held_out)
    return (
        Outcome(
            kind,
            mechanism,
            recipe.model.language_model,
            log,
            evaluation,
            right,
            summary.trained,
            summary.share,
            str(summary),
        ),
        perceived,
    )


def _judged(kind: str, predictions: Sequence[Prediction], held_out: Path) -> dict[str, bool]:
    """Whether each answer is the right one, and each caption true of what it is about."""
    judge = WORLDS[kind].judge
    truths = read_truths(held_out) if judge else {}
    right = {}
    for p in predictions:
        if p.row.task == "captioning":
            assert judge is not None
            right[p.row.id] = judge(p.text, truths[p.row.media[kind]])
        else:
            right[p.row.id] = p.text == p.row.targets[0]
    return right


def _report(
    output: Path, outcomes: Sequence[Outcome], results: Sequence[dict[str, Any]], settings: str, seed: int
) -> None:
    """Pictures and page; the examples are drawn at random."""
    images: dict[str, Path] = {}
    seeing = [outcome for outcome in outcomes if outcome.mechanism == MECHANISMS[0]]
    for outcome in seeing:
        rng = random.Random(seed)
        captions = outcome.evaluation.rows_of("captioning")
        chosen = rng.sample(captions, min(len(captions), SHOWN // 3))
        chosen += rng.sample(outcome.evaluation.rows_of("question_answering"), SHOWN - len(chosen))
        shown = [Shown(p.row.media, p.row.question, p.text, p.row.targets[0], outcome.right[p.row.id]) for p in chosen]
        images[f"Held out: {outcome.kind}"] = output / f"contact_sheet_{outcome.kind}.png"
        draw_contact_sheet(shown, images[f"Held out: {outcome.kind}"])
    images["Loss"] = output / "loss.png"
    draw_losses(
        {
            kind: {outcome.mechanism: outcome.log.smoothed(25) for outcome in outcomes if outcome.kind == kind}
            for kind in dict.fromkeys(outcome.kind for outcome in outcomes)
        },
        images["Loss"],
    )
    draw_table(results, output / "table.png")
    write_page(output / "report.html", results, images, seeing[0].summary, settings)


def main() -> None:
    """Run the demo and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="train longer, on more")
    parser.add_argument("--apart", action="store_true", help="of two modalities at once, train on each alone as well")
    parser.add_argument("--default-window", action="store_true", help="train with the default window as well")
    parser.add_argument("--language-model", help="another than the recipes name, such as toyworld/lm_text")
    parser.add_argument(
        "--only", choices=KINDS, action="append", help="these kinds of things alone, and those that they start from"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None, help="default: runs/demo, with --long runs/demo-long")
    options = parser.parse_args()
    logging.disable_progress_bar()  # of loading weights, which takes no time here
    output = options.output or Path("runs/demo-long" if options.long else "runs/demo")
    wanted = {part for kind in options.only or KINDS for part in (kind, *kind.split("+"))}
    budgets = {kind: (LONG if options.long else QUICK)[kind] for kind in KINDS if kind in wanted}
    only = "".join(f" --only {kind}" for kind in options.only or ())
    switches = "".join(f" --{name.replace('_', '-')}" for name in _SWITCHES if getattr(options, name))
    reader = f" --language-model {options.language_model}" if options.language_model else ""
    command = f"python -m epalm.toyworld.demo{switches}{reader}{only} --seed {options.seed}"
    workers = 1 if torch.cuda.is_available() else min(torch.get_num_threads(), len(budgets))
    try:
        with show_progress() as show:
            results = run(
                output, budgets, options.seed, command, show, language_model=options.language_model,
                each_alone=options.apart, default_window=options.default_window, workers=workers,
            )  # fmt: skip
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        sys.exit(130)
    table = Table("task", "mechanism", "metric", "score", "trained", "share", "seconds")
    for row in results:
        table.add_row(
            f"{row['modality']} {row['task']}", row["mechanism"], row["metric"], f"{row['score']:.1f} %",
            f"{row['trained_parameters']:,}", f"{100 * row['trained_share']:.2f} %", f"{row['seconds']:.0f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"report: {output / 'report.html'}")


if __name__ == "__main__":
    main()
