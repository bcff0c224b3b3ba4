"""The demo: a frozen language model learns to see, in minutes on two cores, and is asked about pictures held out.

    python -m epalm.toyworld.demo            (`make demo`)
    python -m epalm.toyworld.demo --long     (`make demo-long`)

One adapter learns captions and questions together. Beside it stands `text_only`: the same rows, steps and settings
without perception. Writes `results.json`, `report.html` and its pictures, the adapters and every prediction into the
output folder.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from epalm.data.features import OnProgress, PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.data.rows import Row
from epalm.evaluation import Answerer, Evaluation, score_rows
from epalm.progress import show_progress
from epalm.recipe import Recipe, read_recipe
from epalm.toyworld.dataset import read_scenes, write_dataset
from epalm.toyworld.pictures.judge import caption_is_right
from epalm.toyworld.pictures.world import Scene
from epalm.toyworld.report import Shown, draw_contact_sheet, draw_losses, draw_table, write_page
from epalm.training.loop import TrainingLog
from epalm.training.run import load_model, train_on

MECHANISMS = ("epalm_pt", "text_only")
HELD_OUT_SCENES = 250
SHOWN = 12


@dataclass(frozen=True)
class Budget:
    """How much is drawn and trained; the same for every mechanism."""

    scenes: int
    """Training pictures."""
    steps: int
    """Optimizer steps."""


QUICK = Budget(scenes=5000, steps=1500)
LONG = Budget(scenes=12000, steps=7000)


@dataclass(frozen=True)
class Outcome:
    """One mechanism, trained and scored."""

    mechanism: str
    log: TrainingLog
    evaluation: Evaluation
    captions_right: dict[str, bool]
    trained_parameters: int
    trained_share: float
    summary: str

    def rows(self) -> list[dict[str, Any]]:
        """Its lines of `results.json`."""
        scores = {
            ("captioning", "attributes_right"): 100 * sum(self.captions_right.values()) / len(self.captions_right),
            ("question_answering", "exact_match"): self.evaluation.scores["question_answering"]["exact_match"],
        }
        return [
            {
                "modality": "image",
                "task": task,
                "mechanism": self.mechanism,
                "metric": metric,
                "score": round(score, 2),
                "trained_parameters": self.trained_parameters,
                "trained_share": self.trained_share,
                "seconds": round(self.log.seconds, 1),
            }
            for (task, metric), score in scores.items()
        ]


def run(output: Path, budget: Budget, seed: int, command: str, on_progress: OnProgress) -> list[dict[str, Any]]:
    """The whole demo; gives the rows of `results.json`."""
    started = time.perf_counter()
    training, held_out = output / "data" / "training", output / "data" / "held_out"
    write_dataset(training, budget.scenes, seed=seed)
    write_dataset(held_out, HELD_OUT_SCENES, seed=seed + 1, held_out=True, captions=1, questions=4)
    scenes = read_scenes(held_out)
    rows, questions = read_manifest(training / "all.jsonl"), read_manifest(held_out / "all.jsonl")
    outcomes, kept = [], None
    for mechanism in MECHANISMS:
        overrides = {"adapter.preset": mechanism, "training.seed": seed, "training.steps": budget.steps}
        recipe = read_recipe("toy_image", overrides)
        outcome, kept = _train_and_score(recipe, rows, questions, scenes, output / mechanism, kept, on_progress)
        outcomes.append(outcome)
    results = [row for outcome in outcomes for row in outcome.rows()]
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    settings = (
        f"{command}\nseed {seed}, {budget.scenes} training scenes, {budget.steps} steps, "
        f"{HELD_OUT_SCENES} held-out scenes\nwhole demo: {time.perf_counter() - started:.0f} s\n\n"
        f"{recipe.model_dump_json(indent=2)}"
    )
    _report(output, outcomes, results, scenes, settings, seed)
    return results


def _train_and_score(
    recipe: Recipe,
    rows: Sequence[Row],
    held_out: Sequence[Row],
    scenes: dict[str, Scene],
    output: Path,
    kept: PerceivedFiles | None,
    on_progress: OnProgress,
) -> tuple[Outcome, PerceivedFiles]:
    """Train one mechanism and score it; features that are kept already are not perceived again."""
    mechanism = recipe.adapter.preset

    def told(what: str, done: int, total: int) -> None:
        on_progress(f"{mechanism} {what}", done, total)

    model = load_model(recipe)
    perceived = kept or PerceivedFiles.of_model(model)
    log = train_on(model, rows, recipe, perceived, told)
    model.save_pretrained(output, {"text": recipe.text.model_dump(), "generation": recipe.generation.model_dump()})
    evaluation = score_rows(Answerer(model, recipe.text, recipe.generation, perceived), held_out, told)
    evaluation.write_predictions(output / "predictions.jsonl")
    right = {
        _name(prediction.row): caption_is_right(prediction.text, scenes[_name(prediction.row)])
        for prediction in evaluation.rows_of("captioning")
    }
    summary = model.summary()
    return (
        Outcome(mechanism, log, evaluation, right, summary.trained, summary.share, str(summary)),
        perceived,
    )


def _name(row: Row) -> str:
    """The picture as `scenes.jsonl` names it."""
    return "/".join(row.media["image"].parts[-2:])


def _report(
    output: Path,
    outcomes: Sequence[Outcome],
    results: Sequence[dict[str, Any]],
    scenes: dict[str, Scene],
    settings: str,
    seed: int,
) -> None:
    """Pictures and page; the examples are drawn by lot."""
    seeing = outcomes[0]
    rng = random.Random(seed)
    captions = rng.sample(seeing.evaluation.rows_of("captioning"), SHOWN // 3)
    answers = rng.sample(seeing.evaluation.rows_of("question_answering"), SHOWN - len(captions))
    shown = [
        Shown(p.row.media["image"], None, p.text, p.row.targets[0], seeing.captions_right[_name(p.row)])
        for p in captions
    ]
    shown += [
        Shown(p.row.media["image"], p.row.question, p.text, p.row.targets[0], p.text == p.row.targets[0])
        for p in answers
    ]
    images = {
        "Held-out pictures": output / "contact_sheet.png",
        "Loss": output / "loss.png",
        "Results": output / "table.png",
    }
    draw_contact_sheet(shown, images["Held-out pictures"])
    draw_losses({outcome.mechanism: outcome.log.smoothed(25) for outcome in outcomes}, images["Loss"])
    draw_table(results, images["Results"])
    embedded = {heading: path for heading, path in images.items() if heading != "Results"}
    write_page(output / "report.html", results, embedded, seeing.summary, settings)


def main() -> None:
    """Run the demo and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="train for about half an hour")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None, help="default: runs/demo, with --long runs/demo-long")
    options = parser.parse_args()
    logging.disable_progress_bar()  # of loading weights, which takes no time here
    output = options.output or Path("runs/demo-long" if options.long else "runs/demo")
    command = f"python -m epalm.toyworld.demo{' --long' if options.long else ''} --seed {options.seed}"
    with show_progress() as told:
        results = run(output, LONG if options.long else QUICK, options.seed, command, told)
    table = Table("task", "mechanism", "metric", "score", "trained", "share", "seconds")
    for row in results:
        table.add_row(
            row["task"], row["mechanism"], row["metric"], f"{row['score']:.1f} %", f"{row['trained_parameters']:,}",
            f"{100 * row['trained_share']:.2f} %", f"{row['seconds']:.0f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"report: {output / 'report.html'}")


if __name__ == "__main__":
    main()
