"""Writes the demo's table and contact sheets into the README and the backbones' figures into docs/toyworld.md.

So no figure there is typed:

make demo demo-language-models && python benchmarks/readme.py
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from epalm.toyworld.measure import ENCODERS, LANGUAGE_MODELS, encoder_sees, language_model_reads

COMMANDS = {
    "python -m epalm.toyworld.demo": "make demo",
    "python -m epalm.toyworld.demo --long": "make demo-long",
}
"""Shorter names of some."""


def table(results: list[dict[str, object]]) -> str:
    """The rows of `results.json` as Markdown."""
    lines = ["| task | mechanism | score on what was held out | trained | share |", "|---|---|---|---|---|"]
    for row in results:
        task, metric = str(row["task"]).replace("_", " "), str(row["metric"]).replace("_", " ")
        lines.append(
            f"| {row['modality']} {task} | `{row['mechanism']}` | {row['score']:.1f} % ({metric}) "
            f"| {row['trained_parameters']:,} | {100 * float(str(row['trained_share'])):.2f} % |"
        )
    return "\n".join(lines)


def by_language_model(results: list[dict[str, object]]) -> str:
    """Rows of several `results.json` as Markdown: a line a task and mechanism, a column a language model."""
    names = list(dict.fromkeys(str(row["language_model"]) for row in results))
    scores: dict[str, dict[str, dict[str, str]]] = {}  # of each task, mechanism and language model
    for row in results:
        task = f"{row['modality']} {row['task']}".replace("_", " ")
        of_mechanism = scores.setdefault(task, {}).setdefault(str(row["mechanism"]), {})
        of_mechanism[str(row["language_model"])] = f"{row['score']:.1f} %"
    lines = [f"| task | mechanism | {' | '.join(f'`{name}`' for name in names)} |", f"|---|---|{'---|' * len(names)}"]
    for task, mechanisms in scores.items():
        for mechanism, found in mechanisms.items():
            cells = " | ".join(found.get(name, "") for name in names)
            lines.append(f"| {task} | {mechanism} | {cells} |")
    return "\n".join(lines)


def measured() -> str:
    """What the backbones know on their own, as Markdown."""
    lines = []
    for source in LANGUAGE_MODELS:
        reads = [f"{manner} {share:.1%}" for manner, share in language_model_reads(source).items()]
        lines.append(
            f"- answers of `{source}` right to the last token, with the passage or without: {', '.join(reads)};"
        )
    for kind, source in ENCODERS.items():
        sees = [f"{name} {share:.1%}" for name, share in encoder_sees(kind).items()]
        lines.append(f"- linear probes on `{source}`, held out: {', '.join(sees)}.")
    return "\n".join(lines)


def fill(page: Path, name: str, text: str) -> None:
    """Put `text` between the page's `name:begin` and `name:end` marks."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = page.read_text(encoding="utf-8")
    page.write_text(f"{old.partition(begin)[0]}{begin}\n{text}\n{end}{old.partition(end)[2]}", encoding="utf-8")


def written(page: Path, name: str) -> dict[str, str]:
    """The tables that stand between the page's `name:begin` and `name:end` marks, by their command."""
    text = page.read_text(encoding="utf-8").partition(f"<!-- {name}:begin -->")[2].partition(f"<!-- {name}:end -->")[0]
    return {f"make {part.partition('`')[0]}": f"What `make {part.strip()}" for part in text.split("What `make ")[1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", type=Path, default=Path("runs/demo"))
    parser.add_argument("--long", type=Path, nargs="*", default=[Path("runs/demo-long")])
    parser.add_argument(
        "--language-models", type=Path, nargs="*", default=[Path("runs/demo-lm"), Path("runs/demo-lm_text")]
    )
    options = parser.parse_args()
    tables = written(Path("README.md"), "demo")  # what was not run again stays as it is
    for folder in (options.quick, *options.long):
        if (folder / "results.json").is_file():
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            command, settings, *_ = (folder / "settings.txt").read_text(encoding="utf-8").splitlines()
            seed = settings.partition(";")[0]
            command = command.removesuffix(f" --{seed}")
            command = COMMANDS.get(command, command)
            caption = f"What `{command}` gives ({seed}); `text_only` is the same budget without perception:"
            tables[command] = f"{caption}\n\n{table(results)}"
    fill(Path("README.md"), "demo", "\n\n".join(tables.values()))
    page = Path("docs/toyworld.md")
    files = [folder / "results.json" for folder in options.language_models]
    if files and all(file.is_file() for file in files):
        results = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
        fill(page, "language-models", by_language_model(results))
    fill(page, "measure", measured())
    images = Path("docs/images")
    images.mkdir(parents=True, exist_ok=True)
    for sheet in options.quick.glob("contact_sheet_*.png"):
        shutil.copy(sheet, images / sheet.name)


if __name__ == "__main__":
    main()
