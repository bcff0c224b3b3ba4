"""The scores that captions usually get, and which of them can be computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epalm.metrics.registry import get_metric

CAPTION_METRICS = ("cider", "bleu_4", "bleu_3", "bleu_2", "bleu_1", "rouge_l", "meteor", "spice", "spider")
"""The headline first."""
_NOT_ASKED = "Java was not to be started"


def computable(names: Sequence[str], *, java: bool = True) -> tuple[tuple[str, ...], dict[str, str]]:
    """Those of `names` that can be computed on this machine, and of every other why not, and what to do.

    Args:
        names: of metrics.
        java: whether Java may be started.
    """
    left_out: dict[str, str] = {}
    for name in names:
        metric = get_metric(name)
        why = _NOT_ASKED if metric.jars and not java else metric.why_not()
        if why is not None:
            left_out[name] = why
    return tuple(name for name in names if name not in left_out), left_out


def describe_left_out(left_out: Mapping[str, str]) -> str:
    """One line: what is not scored, and why."""
    whys: dict[str, list[str]] = {}
    for name, why in left_out.items():
        whys.setdefault(why, []).append(name)
    return "; ".join(f"not scored: {', '.join(names)}: {why}" for why, names in whys.items())
