"""How long a run is, and which share of the peak rate each step has (eP-ALM section 4.2; cosine by step)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from epalm.recipe import TrainingSettings


def total_steps(settings: TrainingSettings, batches_an_epoch: int) -> int:
    """Optimizer steps of the run: as many as are asked for, else as many as its least epochs and steps take."""
    if settings.steps is not None:
        return settings.steps
    if settings.epochs is not None:
        return max(1, round(settings.epochs * batches_an_epoch))
    return max(settings.min_steps, round(settings.min_epochs * batches_an_epoch))


def rate_factors(settings: TrainingSettings, steps: int, *, of_prompt: bool) -> Callable[[int], float]:
    """Step -> share of the peak rate, of the soft prompt or of all else.

    Args:
        settings: the optimisation.
        steps: of the run.
        of_prompt: the prompt may begin and end at other shares of its own peak.
    """
    start, final = settings.shares_of_peak(of_prompt=of_prompt)
    return partial(rate_factor, steps=steps, warmup=settings.warmup, final=final, start=start)


def rate_factor(step: int, steps: int, warmup: float, final: float, start: float = 0.0) -> float:
    """Share of the peak rate at `step`: a linear rise from `start`, then a cosine down to `final`.

    Args:
        step: counts from 0.
        steps: of the run.
        warmup: share of the steps in which the rate rises; its peak is the last of them.
        final: share of the peak that is left at the end.
        start: share of the peak from which it rises; the first step is one step above it.
    """
    rise = max(1, round(warmup * steps))
    if step < rise:
        return start + (1 - start) * (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
