"""Writes the demo's table and contact sheet into the README, so that no figure there is typed.

make demo && python benchmarks/readme.py
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

BEGIN, END = "<!-- demo:begin -->", "<!-- demo:end -->"


def table(results: list[dict[str, object]]) -> str:
    """The rows of `results.json` as Markdown."""
    lines = ["| task | mechanism | score on held-out scenes | trained | share |", "|---|---|---|---|---|"]
    for row in results:
        task, metric = str(row["task"]).replace("_", " "), str(row["metric"]).replace("_", " ")
        lines.append(
            f"| {row['modality']} {task} | `{row['mechanism']}` | {row['score']:.1f} % ({metric}) "
            f"| {row['trained_parameters']:,} | {100 * float(str(row['trained_share'])):.2f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", type=Path, default=Path("runs/demo"))
    parser.add_argument("--long", type=Path, default=Path("runs/demo-long"))
    options = parser.parse_args()
    parts = []
    for command, folder in (("make demo", options.quick), ("make demo-long", options.long)):
        if (folder / "results.json").is_file():
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            said = f"What `{command}` gives (seed 0); `text_only` is the same budget without perception:"
            parts.append(f"{said}\n\n{table(results)}")
    readme = Path("README.md")
    text = readme.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    readme.write_text(before + BEGIN + "\n" + "\n\n".join(parts) + "\n" + END + after, encoding="utf-8")
    images = Path("docs/images")
    images.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.quick / "contact_sheet.png", images / "contact_sheet.png")


if __name__ == "__main__":
    main()
