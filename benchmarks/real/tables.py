"""What the parts came to, as the tables of docs/real.md and README.md; what was not run is said to be so."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.readme import fill
from benchmarks.real.part import Result, read_result
from benchmarks.real.plan import CHOICES, PARTS, SHORT, SPEAKERS
from benchmarks.real.sheet import sheet_in_words
from epalm.metrics.registry import FloatArray, get_metric
from epalm.metrics.split_scores import with_intervals

NOT_RUN = "not yet run"
_HEADLINES = {
    "photographs": ("photographs, captions", "photographs"),
    "digits": ("spoken digits", "recordings"),
    "esc10": ("sounds of ten kinds (ESC-10)", "recordings"),
    "easy-vqa": ("drawn shapes, questions (easy-VQA)", "questions"),
}
_SEEDS = {
    "digits": [f"digits-300-seed{seed}" for seed in range(3)],
    "esc10": [f"esc10-seed{seed}" for seed in range(3)],
}
"""Of groups that are trained several times for their row."""
_OTHER_TITLES = {"esc10-toy-ast": "ESC-10 by the toy world's AST"}
"""Of parts that are told of as a whole."""
Scores = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that is finished, by part."""

    output: Path
    found: Mapping[str, Result]

    @classmethod
    def read(cls, output: Path) -> Results:
        """What is finished below a directory."""
        found = {part.name: read_result(output / part.name) for part in (*PARTS, *CHOICES)}
        return cls(output, {name: result for name, result in found.items() if result is not None})

    def of(self, names: Iterable[str]) -> list[Result] | None:
        """Those of some parts, where all of them are finished."""
        names = list(names)
        return [self.found[name] for name in names] if all(name in self.found for name in names) else None


def write_tables(results: Results, page: Path, readme: Path | None) -> None:
    """Write every table between its marks on the page, and the first one into the README, too."""
    for name, table in TABLES.items():
        fill(page, name, table(results))
    if readme is not None:
        fill(readme, "real", main_table(results))


def main_table(results: Results) -> str:
    """One row for each kind of data."""
    machines = {(each.training["device"], each.training["threads"]) for each in results.found.values()}
    machine = "; ".join(f"{device}, {threads} thread{'s' * (threads > 1)}" for device, threads in sorted(machines))
    lines = [
        f"| task | learned from | time{f' ({machine})' if machine else ''} | trained | score on what was held out "
        "| blind | another's input | perception gain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group, (title, unit) in _HEADLINES.items():
        names = _SEEDS.get(group, [group])
        found = results.of(names)
        if found is None:
            lines.append(f"| {title} | {NOT_RUN} | | | | | | |")
            continue
        first = found[0]
        score = first.score if len(found) == 1 else pooled(results.output, names, paired=True)
        seconds, cpu_seconds = (max(_both(each, field) for each in found) for field in ("seconds", "cpu_seconds"))
        lines.append(
            f"| {title} | {first.rows:,} {unit} | {_minutes(seconds)}, {_minutes(cpu_seconds)} of CPU "
            f"| {100 * first.trained_share:.2f} % "
            f"| {_named(first, score)} | {_plain(first.blind)} | {_plain(_mean([each.shuffled for each in found]))} "
            f"| {_gain(first)} |"
        )
    return "\n".join(lines)


def photographs_table(results: Results) -> str:
    """Losses and CIDEr of photographs, with everything that is no perception."""
    result = results.found.get("photographs")
    if result is None or result.perception is None:
        return NOT_RUN
    loss = result.perception["loss"]
    return "\n".join(
        [
            "| what is said | loss, nats a token | CIDEr |",
            "|---|---|---|",
            f"| of the right photograph | {loss['right']:.3f} | {_interval(result.score)} |",
            f"| of another photograph | {loss['shuffled']:.3f} | {_interval(result.shuffled)} |",
            f"| by the same adapter, shown nothing | {loss['none']:.3f} | |",
            f"| by `text_only`, trained without photographs | | {_interval(result.blind)} |",
            f"| always the best sentence there is: {result.fixed_sentence.removesuffix(' .')!r} "
            f"| | {_interval(result.fixed)} |",
            f"| a caption of the nearest training photographs, without a language model "
            f"| | {_interval(result.features_alone)} |",
            "",
            f"Perception gain: {_gain(result)} nats a token.",
        ]
    )


def digits_table(results: Results) -> str:
    """By rows to learn from and by speaker; then each speaker as one who was never heard."""
    speakers = "".join(f" {speaker} |" for speaker in SPEAKERS)
    lines = [f"| learned from | seed | all |{speakers} another's input | linear probe |", "|---" * 9 + "|"]
    for rows in (300, 100, 30):
        names = [f"digits-{rows}-seed{seed}" for seed in range(3)]
        for name in names:
            result = results.found.get(name)
            if result is None:
                lines.append(f"| {rows} | {name[-1]} | {NOT_RUN} |" + " |" * (len(SPEAKERS) + 2))
                continue
            by = "".join(f" {_group(result.groups, 'speaker', speaker)} |" for speaker in SPEAKERS)
            lines.append(
                f"| {result.rows} | {result.part['seed']} | {_interval(result.score)} |{by} {_plain(result.shuffled)} "
                f"| {_plain(result.features_alone)} |"
            )
        if results.of(names):
            mean = pooled(results.output, names, paired=True)
            lines.append(f"| {rows} | mean | {_interval(mean)} |" + " |" * (len(SPEAKERS) + 2))
    lines += ["", "| never heard | learned from | scored | score | another's input | linear probe |", "|---" * 6 + "|"]
    names = [f"digits-without-{speaker}" for speaker in SPEAKERS]
    for speaker, name in zip(SPEAKERS, names, strict=True):
        result = results.found.get(name)
        if result is None:
            lines.append(f"| {speaker} | {NOT_RUN} | | | | |")
            continue
        lines.append(
            f"| {speaker} | {result.rows} | {result.held_out} | {_interval(result.score)} | {_plain(result.shuffled)} "
            f"| {_plain(result.features_alone)} |"
        )
    if results.of(names):
        lines.append(f"| all four | | | {_interval(pooled(results.output, names, paired=False))} | | |")
    return "\n".join(lines)


def kinds_table(results: Results) -> str:
    """ESC-10 and easy-VQA by kinds of sounds and of questions."""
    lines = ["| | rows | score | another's input | linear probe |", "|---|---|---|---|---|"]
    for name in ("esc10", "esc10-toy-ast", "easy-vqa"):
        title, names = _OTHER_TITLES.get(name) or _HEADLINES[name][0], _SEEDS.get(name, [name])
        found = results.of(names)
        if found is None:
            lines.append(f"| {title} | {NOT_RUN} | | | |")
            continue
        result, several = found[0], len(found) > 1
        score = pooled(results.output, names, paired=True) if several else result.score
        lines.append(
            f"| **{title}**{', mean of three trainings' if several else ''} | {result.held_out} | {_interval(score)} "
            f"| {_plain(_mean([each.shuffled for each in found]))} | {_interval(result.features_alone)} |"
        )
        for each in found if several else ():
            lines.append(
                f"| with seed {each.part['seed']} | {each.held_out} | {_interval(each.score)} "
                f"| {_plain(each.shuffled)} | |"
            )
        if name in _OTHER_TITLES:
            continue
        for kind, group in result.groups.get("kind", {}).items():
            probe = _group(result.features_alone_groups, "kind", kind)
            lines.append(f"| {kind} | {group['rows']} | {_group(result.groups, 'kind', kind)} | | {probe} |")
    return "\n".join(lines)


def costs_table(results: Results) -> str:
    """What each training took."""
    lines = [
        "| part | rows | steps | seed | perceiving | training | of it CPU time | threads | peak memory | trained "
        "| share | perception gain |",
        "|---" * 12 + "|",
    ]
    for part in PARTS:
        result = results.found.get(part.name)
        if result is None:
            lines.append(f"| {part.name} | {NOT_RUN} |" + " |" * 10)
            continue
        training = result.training
        lines.append(
            f"| {part.name} | {result.rows:,} | {result.steps:,} | {part.seed} "
            f"| {_minutes((result.perceiving or {}).get('seconds', 0))} | {_minutes(training['seconds'])} "
            f"| {_minutes(training['cpu_seconds'])} | {training['threads']} | {training['peak_memory'] / 1e9:.2f} GB "
            f"| {result.trained_parameters:,} | {100 * result.trained_share:.3f} % | {_gain(result)} |"
        )
    return "\n".join(lines)


def sheet_table(results: Results) -> str:
    """Every so many-th photograph, in words."""
    if "photographs" not in results.found:
        return NOT_RUN
    return sheet_in_words(results.output / "photographs" / "scores" / "predictions.jsonl")


def choices_table(results: Results) -> str:
    """Losses on rows held out of the training rows, with one default changed at a time."""
    lines = [
        "| | changed | steps | right | another's | gain |",
        "|---|---|---|---|---|---|",
    ]
    for part in CHOICES:
        is_short = part.settings[: len(SHORT)] == SHORT
        result, changed = results.found.get(part.name), " ".join(part.settings[len(SHORT) * is_short :])
        name = f"| {_HEADLINES[part.group][0]} | {f'`{changed}`' if changed else 'nothing'}"
        if result is None or result.perception is None:
            lines.append(f"{name} | {NOT_RUN} | | | |")
            continue
        loss = result.perception["loss"]
        lines.append(f"{name} | {result.steps} | {loss['right']:.3f} | {loss['shuffled']:.3f} | {_gain(result)} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Results], str]] = {
    "real": main_table,
    "photographs": photographs_table,
    "digits": digits_table,
    "kinds": kinds_table,
    "costs": costs_table,
    "sheet": sheet_table,
    "choices": choices_table,
}
"""By their marks on the page."""


def pooled(output: Path, names: Sequence[str], *, paired: bool) -> dict[str, float]:
    """Exact match of several trainings, with a bootstrap interval over rows.

    Args:
        output: below which the parts are.
        names: of the parts.
        paired: all were scored on the same rows, and a row counts once, with its mean; else rows count one by one.
    """
    right = [_right(output / name / "scores" / "predictions.jsonl") for name in names]
    numbers = np.mean(right, axis=0) if paired else np.concatenate(right)  # (N, 1)
    (score,) = with_intervals(numbers, lambda sums: sums / len(numbers))
    return dataclasses.asdict(score)


def _right(predictions: Path) -> FloatArray:
    """Which rows were answered right, in percent, `(N, 1)`."""
    rows = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    return get_metric("exact_match").statistics(
        [row["prediction"] for row in rows], [row["references"] for row in rows]
    )


def _mean(scores: Sequence[Scores]) -> dict[str, float]:
    return {"value": sum(score["value"] for score in scores) / len(scores)}


def _both(result: Result, field: str) -> float:
    """Of perceiving and training together."""
    return float(result.training[field] + (result.perceiving or {}).get(field, 0))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _named(result: Result, score: Scores) -> str:
    return f"CIDEr {_interval(score)}" if result.metric == "cider" else f"{_interval(score)} % right"


def _interval(score: Scores | None) -> str:
    return "" if score is None else f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"


def _plain(score: Scores | None) -> str:
    return "" if score is None else f"{score['value']:.1f}"


def _gain(result: Result) -> str:
    gain = result.perception
    return "" if gain is None else f"{gain['value']:+.2f} [{gain['low']:.2f}, {gain['high']:.2f}]"


def _group(groups: Mapping[str, Any], kind: str, name: str) -> str:
    found = groups.get(kind, {}).get(name)
    return "" if found is None else _plain(next(iter(found["scores"].values())))
