"""The training loop: AdamW on the trained parts alone, cosine by step, on accelerate's own pieces.

Shapes: B batch, T text tokens, K levels, E encoder width.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from epalm.admission import name_of, require_known_tokens, require_perceived, require_room, require_tokenizer
from epalm.data.collate import collate
from epalm.data.features import OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import ConfigError, DataError
from epalm.models import PerceptualLM
from epalm.recipe import TrainingSettings
from epalm.tasks import Tasks
from epalm.training.batches import batches_per_epoch, endless_batches

DEFAULT_EPOCHS = 8.0


@dataclass(frozen=True)
class TrainingLog:
    """What a run leaves behind besides the adapter."""

    losses: tuple[float, ...]
    """Loss of every step."""
    seconds: float
    """Wall time of the steps, perceiving left out."""

    def smoothed(self, window: int = 20) -> list[float]:
        """Running mean of the losses."""
        means, total = [], 0.0
        for step, loss in enumerate(self.losses):
            total += loss - (self.losses[step - window] if step >= window else 0.0)
            means.append(total / min(step + 1, window))
        return means


def total_steps(settings: TrainingSettings, kinds: Sequence[Hashable]) -> int:
    """Optimizer steps of the run."""
    if settings.steps is not None:
        return settings.steps
    return max(1, round((settings.epochs or DEFAULT_EPOCHS) * batches_per_epoch(kinds, settings.batch_size)))


def rate_factor(step: int, steps: int, warmup: float, final: float) -> float:
    """Share of the peak rate at `step`: a linear rise, then a cosine down to `final`."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def train(
    model: PerceptualLM,
    rows: Sequence[Row],
    tasks: Tasks,
    settings: TrainingSettings,
    *,
    perceived: PerceivedFiles | None = None,
    on_progress: OnProgress | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    where: str = "",
) -> TrainingLog:
    """Train what `model` owns on `rows`.

    Args:
        model: its trained parts are changed in place; all else stays as it is.
        rows: questions with answers and captions, mixed as they come.
        tasks: how rows become text for this language model.
        settings: the optimisation.
        perceived: features of the rows' files; None: the model's own encoders perceive every file once.
        on_progress: told of perceiving.
        on_step: called with step, steps and loss after every step.
        where: the manifest, for messages.

    Raises:
        ConfigError: nothing in the model can be trained.
        DataError: there are no rows, a row cannot be trained on, or a loss is not a finite number.
        MediaError: a file cannot be read.
        UnsupportedModelError: the language model's tokenizer is missing or another model's.
    """
    check_rows(rows, tasks, model, where)
    set_seed(settings.seed)
    perceived = perceived or PerceivedFiles.of_model(model)
    media = [{name: path for name, path in row.media.items() if name in model.levels} for row in rows]
    perceived.perceive(media, on_progress, training=True)
    # Captions are longer than answers: apart, neither is padded to the other's length.
    kinds = [(row.task, frozenset(files)) for row, files in zip(rows, media, strict=True)]
    steps = total_steps(settings, kinds)
    accelerator = Accelerator(device_placement=False)  # the model is where the recipe says
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(step, steps, settings.warmup, settings.final_rate)
    )
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    losses: list[float] = []
    batches = endless_batches(kinds, settings.batch_size, settings.seed)
    model.train()
    started = time.perf_counter()
    for step in range(steps):
        numbers = next(batches)
        draws = random.Random(f"{settings.seed} {step}")  # of the step alone
        pairs = [tasks.encode(rows[number], draws) for number in numbers]
        batch = collate(pairs, tasks.pad_id, loss_on=settings.loss_on)
        require_known_tokens(batch.input_ids, model)
        output = model(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            labels=batch.labels,
            features=perceived.of([media[number] for number in numbers], step=step),
            loss_scale=settings.loss_scale,
            label_smoothing=settings.label_smoothing,
        )
        loss = float(output.loss.detach())
        if not math.isfinite(loss):
            remedy = "lower training.learning_rate" if step else "try model.torch_dtype float32"
            raise DataError(f"training: the loss is {loss} at step {step + 1}; {remedy}")
        accelerator.backward(output.loss)
        if settings.clip is not None:
            accelerator.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
        if on_step is not None:
            on_step(step + 1, steps, loss)
    seconds = time.perf_counter() - started
    model.eval()
    return TrainingLog(tuple(losses), seconds)


def check_rows(rows: Sequence[Row], tasks: Tasks, model: PerceptualLM, where: str = "") -> None:
    """See that `model` can be trained on every row.

    Raises:
        DataError: there are no rows, or one has no target, brings nothing that is perceived, or is too long.
        UnsupportedModelError: the language model has no tokenizer.
    """
    if not rows:
        raise DataError("training: there are no rows to learn from")
    for row in rows:
        if not row.targets:
            raise DataError(f"{name_of(row, where)}: has no answer or caption to train on")
    require_tokenizer(model)
    require_perceived(rows, model.levels, where)
    require_room(rows, tasks, model, with_targets=True, where=where)


def _parameter_groups(model: PerceptualLM, settings: TrainingSettings) -> list[dict[str, object]]:
    """One group a part and kind: the soft prompt has its own rate; vectors and the prompt do not decay."""
    groups: list[dict[str, object]] = []
    for part, parameters in model.trained_parameters().items():
        is_prompt = part == "prompt"
        rate = settings.prompt_learning_rate if is_prompt else None
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim >= 2 and not is_prompt) == decays]
            if chosen:
                decay = settings.weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": rate or settings.learning_rate, "weight_decay": decay})
    if not groups:
        raise ConfigError("adapter: nothing would be trained; choose a connector or a prompt")
    return groups
