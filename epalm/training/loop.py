"""The training loop: AdamW on the trained parts alone, cosine by step, on accelerate's own pieces.

A step learns from one batch, whatever the number of processes: each process takes its share of it, in as many parts as
`accumulation` says, and gradients are weighted so that their sum is that of the whole batch. Padding, drawn answers and
views do not depend on who takes which row.

Shapes: B batch, T text tokens, K levels, E encoder width.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from torch import Tensor

from epalm.admission import name_of, require_known_tokens, require_perceived, require_room, require_tokenizer
from epalm.data.collate import Encoded, collate
from epalm.data.features import OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import ConfigError, DataError, TrainingStopped
from epalm.models import PerceptualLM
from epalm.processes import without_gpu
from epalm.recipe import TrainingSettings
from epalm.tasks import Tasks
from epalm.training.batches import Batches, share_of
from epalm.training.checkpoints import Checkpoint, Checkpoints
from epalm.training.randomness import random_states, restore_random_states
from epalm.training.schedule import rate_factor, total_steps
from epalm.training.selection import Selection
from epalm.training.stopping import StopRequests, heeding_signals

_TOLD_EVERY = 10  # steps between looks at the losses of a device: each look waits for it


@dataclass(frozen=True)
class TrainingLog:
    """What a run leaves behind besides the adapter."""

    losses: tuple[float, ...]
    """Loss of every step."""
    seconds: float
    """Wall time of the steps, perceiving left out; of a run that was resumed, from there on."""
    scores: tuple[tuple[int, float], ...] = ()
    """Steps after which the adapter was scored, and the scores."""
    chosen_step: int | None = None
    """The step whose adapter was kept, where the best one was chosen."""

    def smoothed(self, window: int = 20) -> list[float]:
        """Running mean of the losses."""
        means, total = [], 0.0
        for step, loss in enumerate(self.losses):
            total += loss - (self.losses[step - window] if step >= window else 0.0)
            means.append(total / min(step + 1, window))
        return means


def train(
    model: PerceptualLM,
    rows: Sequence[Row],
    tasks: Tasks,
    settings: TrainingSettings,
    *,
    perceived: PerceivedFiles | None = None,
    on_progress: OnProgress | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_warning: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
    score: Callable[[], float] | None = None,
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
        on_warning: told of damaged checkpoints.
        checkpoints: where the run is saved on the way; it goes on from what lies there. With them Ctrl-C and SIGTERM
            end the run in order.
        score: how good the model is now, more being better; called every `settings.validate_every` steps, and the best
            adapter is the one that stays.
        where: the manifest, for messages.

    Raises:
        AdapterError: a checkpoint cannot be written.
        ConfigError: nothing in the model can be trained, or a checkpoint is of a run with other settings.
        DataError: there are no rows, a row cannot be trained on, or a loss is not a finite number.
        MediaError: a file cannot be read.
        TrainingStopped: the run was asked to stop, and has been saved.
        UnsupportedModelError: the language model's tokenizer is missing or another model's.
    """
    check_rows(rows, tasks, model, where)
    set_seed(settings.seed)
    perceived = perceived or PerceivedFiles.of_model(model)
    media = [{name: path for name, path in row.media.items() if name in model.levels} for row in rows]
    perceived.perceive(media, on_progress, training=True)
    run = _Run(model, rows, tasks, settings, perceived, media)
    with heeding_signals() if checkpoints else nullcontext(StopRequests()) as requests:
        if checkpoints and (saved := checkpoints.newest(on_warning)):
            run.restore(saved)
        return run.through(requests, checkpoints, on_step, score)


class _Run:
    """A run under way."""

    def __init__(
        self,
        model: PerceptualLM,
        rows: Sequence[Row],
        tasks: Tasks,
        settings: TrainingSettings,
        perceived: PerceivedFiles,
        media: Sequence[dict[str, Any]],
    ) -> None:
        self.bare, self.rows, self.tasks, self.settings = model, rows, tasks, settings
        self.perceived, self.media = perceived, media
        # Captions are longer than answers: apart, neither is padded to the other's length.
        kinds = [(row.task, frozenset(files)) for row, files in zip(rows, media, strict=True)]
        lengths = [_length(row) for row in rows] if settings.group_by_length else None
        self.batches = Batches(kinds, settings.batch_size, settings.seed, lengths)
        self.steps = total_steps(settings, len(self.batches))
        self.accelerator = Accelerator(
            device_placement=False,  # the model is where the recipe says
            cpu=without_gpu(),
            # A batch without sound trains no connector for sounds.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
        )
        self.model = self.accelerator.prepare(model)
        self.optimizer = torch.optim.AdamW(_parameter_groups(model, settings), eps=settings.adam_epsilon)
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate_factor)
        half = next(model.language_model.parameters()).dtype == torch.float16
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=half)
        self.parts = self.accelerator.num_processes * settings.accumulation
        self.step, self.losses = 0, list[float]()
        self.pending: list[Tensor] = []
        """Losses of steps that have not been looked at yet; this process's share of each."""
        self.selection = Selection(settings.patience)

    def _rate_factor(self, step: int) -> float:
        settings = self.settings
        return rate_factor(step, self.steps, settings.warmup, settings.final_rate, settings.warmup_start)

    def through(
        self,
        requests: StopRequests,
        checkpoints: Checkpoints | None,
        on_step: Callable[[int, int, float], None] | None,
        score: Callable[[], float] | None,
    ) -> TrainingLog:
        """All steps that are left."""
        settings, started = self.settings, time.perf_counter()
        eager = self.accelerator.num_processes == 1 and self.bare.device.type == "cpu"
        batches = self.batches.after(self.step)
        self.bare.train()
        while self.step < self.steps and not self.selection.is_over:
            self._learn(next(batches))
            self.step += 1
            saves = checkpoints is not None and self.step % settings.checkpoint_every == 0
            scores = score is not None and settings.validate_every and self.step % settings.validate_every == 0
            stops = bool(requests.number) and eager
            last = self.step == self.steps
            if eager or saves or scores or stops or last or self.step % _TOLD_EVERY == 0:
                stops = self._look(requests, on_step)
            if score is not None and (scores or last):
                self._select(score)
            if checkpoints is not None and not last and (saves or stops):
                self._save(checkpoints)
            if stops and checkpoints is not None and not last:
                raise TrainingStopped(
                    f"stopped after step {self.step} of {self.steps}; what was learned is in {checkpoints.directory}; "
                    "the same command with --resume goes on from there",
                    requests.number,
                )
        if self.selection.best is not None:
            self.bare.load_trained_state_dict(self.selection.best)
        self.bare.eval()
        chosen = self.selection
        return TrainingLog(tuple(self.losses), time.perf_counter() - started, tuple(chosen.scores), chosen.best_step)

    def _learn(self, numbers: Sequence[int]) -> None:
        """One optimizer step on the rows of these numbers."""
        settings = self.settings
        draws = random.Random(f"{settings.seed} {self.step}")  # of the step alone
        pairs = [self.tasks.encode(self.rows[number], draws) for number in numbers]
        labels = _count_labels(pairs, settings)
        share = torch.zeros((), device=self.bare.device)
        first = self.accelerator.process_index * settings.accumulation
        for part in range(first, first + settings.accumulation):
            places = share_of(range(len(numbers)), part, self.parts)
            weight = 0.0
            if places:
                mine = _count_labels([pairs[place] for place in places], settings) / labels
                weight = len(places) / len(numbers) if settings.loss_scale == "original" else mine
            else:
                places = range(1)  # every process takes part in every step; what it has no row for weighs nothing
            is_last = part + 1 == first + settings.accumulation
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                loss = weight * self._loss([numbers[place] for place in places], [pairs[place] for place in places])
                # Processes' gradients are averaged, and here they are to be summed.
                self.accelerator.backward(self.scaler.scale(loss * self.accelerator.num_processes))
            share += loss.detach()
        self.pending.append(share)
        if settings.clip is not None:
            self.scaler.unscale_(self.optimizer)
            self.accelerator.clip_grad_norm_(self.trained, settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _loss(self, numbers: Sequence[int], pairs: Sequence[Encoded]) -> Tensor:
        """Of some rows of a batch."""
        batch = collate(pairs, self.tasks.pad_id, loss_on=self.settings.loss_on)
        require_known_tokens(batch.input_ids, self.bare)
        output = self.model(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            labels=batch.labels,
            features=self.perceived.of([self.media[number] for number in numbers], step=self.step),
            loss_scale=self.settings.loss_scale,
            label_smoothing=self.settings.label_smoothing,
        )
        loss: Tensor = output.loss
        return loss

    def _look(self, requests: StopRequests, on_step: Callable[[int, int, float], None] | None) -> bool:
        """Read the losses that are pending, and whether any process was asked to stop."""
        asked = torch.tensor(float(requests.number > 0), device=self.bare.device)
        told = self.accelerator.reduce(torch.stack([*self.pending, asked]), reduction="sum")
        *losses, stops = told.tolist()
        self.pending.clear()
        for step, loss in enumerate(losses, start=len(self.losses) + 1):
            if not math.isfinite(loss):
                remedy = "lower training.learning_rate" if step > 1 else "try model.torch_dtype float32"
                raise DataError(f"training: the loss is {loss} at step {step}; {remedy}")
            self.losses.append(loss)
            if on_step is not None:
                on_step(step, self.steps, loss)
        return bool(stops)

    def _select(self, score: Callable[[], float]) -> None:
        """Score the adapter as it is now, and keep it if it is the best so far."""
        self.bare.eval()
        self.selection.offer(self.step, score(), self.bare.trained_state_dict())
        self.bare.train()

    def _save(self, checkpoints: Checkpoints) -> None:
        states = random_states(self.accelerator)
        if self.accelerator.is_main_process:
            checkpoints.save(self._checkpoint(states))
        self.accelerator.wait_for_everyone()

    def _checkpoint(self, states: list[dict[str, Any]]) -> Checkpoint:
        optimizer = self.optimizer.state_dict()
        kept = {f"{number}.{name}": value for number, one in optimizer["state"].items() for name, value in one.items()}
        tensors = {"adapter": self.bare.trained_state_dict(), "optimizer": kept}
        if self.selection.best is not None:
            tensors["best"] = self.selection.best
        state = {
            "losses": self.losses,
            "rates": [group["lr"] for group in optimizer["param_groups"]],
            "schedule": self.schedule.last_epoch,
            "scaler": self.scaler.state_dict(),
            "selection": self.selection.as_dict(),
            "random": states,
        }
        return Checkpoint(self.step, tensors, state)

    def restore(self, saved: Checkpoint) -> None:
        """Be where the run was when `saved` was written."""
        device, state = self.bare.device, saved.state
        self.bare.load_trained_state_dict(saved.tensors["adapter"])
        optimizer = self.optimizer.state_dict()
        kept: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.tensors["optimizer"].items():
            number, _, name = key.partition(".")
            kept.setdefault(int(number), {})[name] = value
        groups = [group | {"lr": rate} for group, rate in zip(optimizer["param_groups"], state["rates"], strict=True)]
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})
        self.schedule.last_epoch = state["schedule"]
        self.scaler.load_state_dict(state["scaler"])
        best = saved.tensors.get("best")
        kept_best = None if best is None else {name: tensor.to(device) for name, tensor in best.items()}
        self.selection = Selection.of_dict(self.settings.patience, state["selection"], kept_best)
        self.step, self.losses = saved.step, list(state["losses"])
        restore_random_states(state["random"], self.accelerator.process_index)


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


def _length(row: Row) -> int:
    """About how long the row's text is, in letters: rows are grouped by it, so it need not be exact."""
    return len(row.question or "") + max(map(len, row.targets))


def _count_labels(pairs: Sequence[Encoded], settings: TrainingSettings) -> int:
    """Tokens that are learned, as `collate` labels them."""
    if settings.loss_on == "answer":
        return sum(len(pair.target_ids) for pair in pairs)
    return sum(len(pair.prompt_ids) + len(pair.target_ids) - 1 for pair in pairs)


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
