"""What is trained and scored: one part for each training. To try something else, change it here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from epalm.errors import ConfigError

LANGUAGE_MODEL = "smollm2-135m-instruct"
"""Directory below BACKBONES; every part has this one."""
SPEAKERS = ("george", "jackson", "lucas", "theo")


@dataclass(frozen=True)
class Part:
    """One training, and the rows that it is scored on."""

    group: str
    """What it is about: a reader of rows of `benchmarks.real.rows`."""
    modality: str
    encoder: str | None = None
    """Directory below BACKBONES, or one of the toy world's."""
    features: str | None = None
    """In place of an encoder: who made the features that are imported, in words."""
    seed: int = 0
    """Of the training, and of the subset where there is one."""
    rows: int | None = None
    """Rows to learn from, as many of each answer; unset: all."""
    without: str | None = None
    """Speaker who is left out of training, and alone is scored."""
    blind: bool = False
    """Whether the same is trained without perception, too."""
    own_name: str = ""
    """Where the group has several parts."""
    settings: tuple[str, ...] = ()
    """What is not as epalm has it by default, as options of the command."""
    development: bool = False
    """Whether it is for choosing defaults: rows are held out of the training rows, and their losses alone are taken."""

    @property
    def name(self) -> str:
        """Such as `digits-30-seed1`; a directory of the output."""
        return f"{self.group}-{self.own_name}" if self.own_name else self.group


def _digits() -> Iterator[Part]:
    for rows in (300, 100, 30):
        for seed in range(3):
            yield Part(
                "digits", "audio", "whisper-tiny-en", seed=seed, rows=rows, blind=(rows, seed) == (300, 0),
                own_name=f"{rows}-seed{seed}",
            )  # fmt: skip
    for speaker in SPEAKERS:
        yield Part("digits", "audio", "whisper-tiny-en", without=speaker, own_name=f"without-{speaker}")


PARTS = (
    Part("photographs", "image", features="EfficientNet-Lite0 of ImageNet, pooled", blind=True),
    *_digits(),
    *(
        Part("esc10", "audio", "whisper-tiny-en", seed=seed, blind=seed == 0, own_name=f"seed{seed}")
        for seed in range(3)
    ),
    Part("esc10", "audio", "toyworld/ast", own_name="toy-ast"),
    Part("easy-vqa", "image", "dinov2-small-saliency", blind=True),
)


SHORT = ("--training.steps", "200")
"""Of most choices."""


def _choices() -> Iterator[Part]:
    """Every default changed by itself, on rows that are never scored elsewhere."""
    changes = {
        "default": (),
        "rate-1e-3": ("--training.learning_rate", "1e-3"),
        "rate-1e-2": ("--training.learning_rate", "1e-2"),
        "no-dropout": ("--training.feature_dropout", "0"),
        "decay-0.02": ("--training.weight_decay", "0.02"),
        "init-1": ("--training.connector_init_scale", "1"),
        "prompt-10": ("--adapter.prompt_tokens", "10"),
        "all-layers": ("--adapter.start", "0", "--adapter.end", "30"),
        "per-level": ("--adapter.connector", "per_level"),
        "last-level": ("--adapter.levels", "1"),
    }
    for group in ("photographs", "digits"):
        for name, settings in changes.items():
            is_of_digits = group == "digits"
            yield Part(
                group, "audio" if is_of_digits else "image", "whisper-tiny-en" if is_of_digits else None,
                features=None if is_of_digits else "EfficientNet-Lite0 of ImageNet, pooled",
                rows=30 if is_of_digits else None, own_name=f"choice-{name}", settings=(*SHORT, *settings),
                development=True,
            )  # fmt: skip
    for name in ("default", "no-dropout", "prompt-10"):
        yield Part(
            "photographs", "image", features="EfficientNet-Lite0 of ImageNet, pooled", own_name=f"choice-whole-{name}",
            settings=changes[name], development=True,
        )  # fmt: skip


CHOICES = tuple(part for part in _choices() if not part.name.startswith("photographs") or "level" not in part.name)
"""What the defaults were chosen by; photographs have one level."""


def select(names: Sequence[str], parts: Sequence[Part] = PARTS) -> list[Part]:
    """The parts that have one of these names, or whose name begins so: `digits`, `digits-30`, `digits-30-seed0`.

    Raises:
        ConfigError: there is none for a name.
    """
    for name in names:
        if not any(_is_meant(name, part) for part in parts):
            groups = ", ".join(dict.fromkeys(part.group for part in parts))
            raise ConfigError(f"ONLY: there is no part named '{name}'; name some of {groups}, or of their parts")
    return [part for part in parts if not names or any(_is_meant(name, part) for name in names)]


def _is_meant(name: str, part: Part) -> bool:
    return f"{part.name}-".startswith(f"{name}-")
