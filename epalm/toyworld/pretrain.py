"""What the pretraining scripts of the backbones share: a schedule by step, and checkpoints to go on from."""

from __future__ import annotations

import math
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from epalm.models.precision import best_dtype


def options_parser(description: str | None, home: Path, *, steps: int, batch: int, rate: float) -> ArgumentParser:
    """What both scripts are asked: the schedule, and where weights come from and go to (by default `home`)."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--state", type=Path, default=Path(f"build/{home.name}.pt"), help="checkpoint to go on from")
    parser.add_argument("--start-from", type=Path, help="directory of weights to start from, such as the shipped ones")
    parser.add_argument("--out", type=Path, default=home)
    return parser


def half_where_it_pays() -> torch.autocast:
    """Passes in bfloat16 on CPUs that multiply it natively, and in float32, many times as fast there, on others."""
    return torch.autocast("cpu", torch.bfloat16, enabled=best_dtype("cpu") == torch.bfloat16)


def rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate: linear warm-up, then a cosine down to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def pretrain(
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    *,
    steps: int,
    peak_rate: float,
    state_file: Path,
    report: Callable[[], str],
    report_every: int = 250,
    warmup: int = 300,
) -> None:
    """Train all of `model` on `loss_at(step)` with AdamW; stopped and started again, it goes on where it was.

    Batches depend on the step alone, so a run that was interrupted ends as one that was not.
    """
    optimizer = torch.optim.AdamW(_decay_groups(model), lr=peak_rate, betas=(0.9, 0.98))
    first = 0
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    started, running = time.monotonic(), 0.0
    model.train()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, peak_rate, warmup)
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % report_every == 0 or step + 1 == steps:
            model.eval()
            with torch.no_grad():
                words = report()
            model.train()
            pace = (time.monotonic() - started) / (step + 1 - first)
            print(f"step {step + 1}/{steps}  loss {running:.4f}  {words}  {pace * 1000:.0f} ms/step", flush=True)
            _save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, state_file)


def _decay_groups(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay for the matrices of linear layers only: no vectors, no embeddings."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    return [
        {"params": [p for p in model.parameters() if id(p) in decayed], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if id(p) not in decayed], "weight_decay": 0.0},
    ]


def _save(state: dict[str, object], path: Path) -> None:
    """Write beside, then rename: a stop in the middle leaves the earlier state whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    torch.save(state, beside)
    beside.replace(path)
