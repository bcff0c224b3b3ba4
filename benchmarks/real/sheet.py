"""Contact sheet of photographs held out, with what people and the adapter say: with the photographs, or in words alone.

The photographs may not be passed on, so what stands in the docs is drawn without them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from epalm.media import load_image

_SHOWN, _COLUMNS = 24, 4
_WIDTH, _HEIGHT, _TEXT, _MARGIN = 300, 225, 92, 12
_INK, _QUIET = "#1c2330", "#687182"


def shown(predictions: Path) -> list[dict[str, Any]]:
    """Every so many-th of the predictions, whatever they are: nobody chose them."""
    rows = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    count = min(_SHOWN, len(rows))
    return [rows[len(rows) * place // count] for place in range(count)]


def sheet_in_words(predictions: Path) -> str:
    """Number, file, what a person said of it and what the adapter said, as Markdown."""
    lines = ["| | file | a person | the adapter |", "|---|---|---|---|"]
    for number, row in enumerate(shown(predictions), start=1):
        cells = (str(number), Path(row["image"]).name, row["references"][0].removesuffix(" ."), row["prediction"])
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def draw_sheet(predictions: Path, path: Path) -> None:
    """The same, with the photographs, as PNG."""
    rows = shown(predictions)
    lines = -(-len(rows) // _COLUMNS)
    size = (_COLUMNS * (_WIDTH + _MARGIN) + _MARGIN, lines * (_HEIGHT + _TEXT + _MARGIN) + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, row in enumerate(rows):
        left = _MARGIN + place % _COLUMNS * (_WIDTH + _MARGIN)
        top = _MARGIN + place // _COLUMNS * (_HEIGHT + _TEXT + _MARGIN)
        photograph = load_image(Path(row["image"]))
        photograph.thumbnail((_WIDTH, _HEIGHT))
        sheet.paste(photograph, (left + (_WIDTH - photograph.width) // 2, top + _HEIGHT - photograph.height))
        said = _wrapped(f"{place + 1}: {row['prediction']}", font)
        draw.multiline_text((left, top + _HEIGHT + 4), said, _INK, font)
        below = top + _HEIGHT + 8 + 17 * (said.count("\n") + 1)
        draw.multiline_text((left, below), _wrapped(f"a person: {row['references'][0]}", font), _QUIET, font)
    partial = path.with_name(f".{path.name}.part")
    sheet.save(partial, "png")
    partial.replace(path)


def _wrapped(text: str, font: Any) -> str:
    """Lines as wide as a photograph; two of them."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _WIDTH:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:2]) + (" ..." if len(lines) > 2 else "")
