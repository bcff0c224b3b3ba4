"""The demo's report: one self-contained HTML page with its pictures beside it as PNG."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from epalm.media import load_audio, load_image, load_video

_INK, _PAPER, _ACCENT, _QUIET, _GOOD, _BAD = "#1c2330", "#ffffff", "#2a6fdb", "#8a93a3", "#1b8a4b", "#c23b3b"


@dataclass(frozen=True)
class Shown:
    """One held-out example: its files, what was asked (None for a caption), what was said, and what is true."""

    media: Mapping[str, Path]
    question: str | None
    said: str
    truth: str
    right: bool


def draw_losses(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Loss over steps as PNG: one panel a kind of things, one line a mechanism."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * max(2, len(curves)), 3.0), dpi=130, layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (kind, lines) in zip(panels, curves.items(), strict=True):
        for (name, losses), color in zip(lines.items(), (_ACCENT, _QUIET, _GOOD, _BAD), strict=False):
            axes.plot(range(1, len(losses) + 1), losses, label=name, color=color, linewidth=1.6)
        axes.set(xlabel="step", title=kind)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("loss (nats a token)")
    panels[0].legend(frameon=False)
    figure.savefig(path)


def draw_contact_sheet(examples: Sequence[Shown], path: Path, columns: int = 4) -> None:
    """Held-out things with question, answer and truth, as PNG: clips as film strips, sounds as spectrograms."""
    from matplotlib.figure import Figure

    panels = [_panel(shown.media) for shown in examples]
    tallest = max(panel.shape[0] / panel.shape[1] for panel in panels)
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(3.1 * columns, (2.7 * tallest + 1.1) * rows), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, shown, panel in zip(grid.flat, examples, panels, strict=False):
        axes.imshow(panel)
        verdict, color = ("right", _GOOD) if shown.right else (f"wrong; truth: {shown.truth}", _BAD)
        axes.set_title(_wrapped(shown.question or "caption"), fontsize=9, color=_INK)
        axes.set_xlabel(f"{_wrapped(shown.said)}\n{_wrapped(f'({verdict})')}", fontsize=9, color=color)
    figure.savefig(path)


def draw_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The results as PNG."""
    from matplotlib.figure import Figure

    cells = [list(_cells(row).values()) for row in rows]
    figure = Figure(figsize=(9.6, 0.42 * (len(rows) + 1.4)), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    table = axes.table(
        cellText=cells, colLabels=list(_cells(rows[0])), loc="center", cellLoc="left", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.auto_set_column_width(list(range(len(cells[0]))))
    table.scale(1, 1.4)
    figure.savefig(path)


def write_page(
    path: Path, rows: Sequence[Mapping[str, Any]], images: Mapping[str, Path], summary: str, settings: str
) -> None:
    """One HTML page that needs no other file.

    Args:
        path: of the page.
        rows: of the results table.
        images: heading -> PNG, embedded.
        summary: the model's parts with what is trained of each.
        settings: the command and settings that gave these figures.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in _cells(rows[0]))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row).values()) + "</tr>" for row in rows
    )
    figures = "".join(
        f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,{_encoded(image)}">'
        for name, image in images.items()
    )
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>eP-ALM on the toy world</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: {_INK}; background: {_PAPER} }}
body {{ max-width: 960px; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.6rem }} h2 {{ font-size: 1.15rem; margin-top: 2rem }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #dde1e8 }}
img {{ max-width: 100%; height: auto }}
pre {{ background: #f4f6f9; padding: .8rem; overflow-x: auto; font-size: .85rem }}
</style></head><body>
<h1>A frozen language model that sees, watches and hears</h1>
<p>A language model that has only ever read text, and encoders that have only ever met labelled pictures, clips or
sounds, all frozen. What is trained between them is one linear projection for each encoder and one soft-prompt token.
All that is shown below is held out: no combination of shape, colour and texture in it (in a clip of shape, colour and
deed; in a sound of shape, pitch, loudness and number) was in the adapter's rows, in the language model's text or in
what the encoders met.
<code>text_only</code> is the blind floor: the same budget without perception.</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
{figures}
<h2>What is trained</h2><pre>{html.escape(summary)}</pre>
<h2>Settings</h2><pre>{html.escape(settings)}</pre>
</body></html>
""",
        encoding="utf-8",
    )


def _panel(media: Mapping[str, Path]) -> np.ndarray:
    """What is seen above what is heard, (H, W, 3) uint8."""
    drawn = [_PANELS[modality](media[modality]) for modality in sorted(media, reverse=True)]
    width = max(part.width for part in drawn)
    scaled = [part.resize((width, round(part.height * width / part.width))) for part in drawn]
    return np.concatenate([np.asarray(part) for part in scaled])


def _film_strip(path: Path, frames: int = 8) -> Image.Image:
    """Frames of a clip from left to right in two rows."""
    clip = load_video(path, frames=frames)
    clip = np.pad(clip, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    rows = np.split(clip, 2)
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))


def _spectrogram(path: Path, rate: int = 16_000) -> Image.Image:
    """Loudness over time, to the right, and pitch, upwards and logarithmic, over 70 dB."""
    from matplotlib import colormaps

    window, hop = 1024, 128
    samples = load_audio(path, rate=rate)
    starts = range(0, max(1, len(samples) - window), hop)
    frames = np.stack([np.resize(samples[at : at + window], window) for at in starts]) * np.hanning(window)
    level = 20 * np.log10(np.abs(np.fft.rfft(frames)) + 1e-6)  # (frames, bins)
    pitches = np.geomspace(60, rate / 2 - 1, 96)[::-1]
    drawn = level[:, np.round(pitches * window / rate).astype(int)].T
    scaled = np.clip((drawn - drawn.max() + 70) / 70, 0, 1)
    return Image.fromarray((colormaps["magma"](scaled)[..., :3] * 255).astype(np.uint8)).resize((288, 144))


_PANELS: dict[str, Callable[[Path], Image.Image]] = {
    "image": load_image, "video": _film_strip, "audio": _spectrogram,
}  # fmt: skip


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of the results as people read it."""
    return {
        "task": f"{row['modality']} {row['task'].replace('_', ' ')}",
        "mechanism": row["mechanism"],
        "metric": row["metric"],
        "score": f"{row['score']:.1f} %",
        "trained": f"{row['trained_parameters']:,}",
        "share": f"{100 * row['trained_share']:.2f} %",
        "training": f"{row['seconds']:.0f} s",
    }


def _wrapped(text: str, width: int = 38) -> str:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _encoded(path: Path) -> str:
    buffer = io.BytesIO(path.read_bytes())
    return base64.b64encode(buffer.getvalue()).decode()
