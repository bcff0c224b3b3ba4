"""The training loop: AdamW on the trained parts alone, cosine by step, on accelerate's own pieces.

Batch after batch is learned, looked at, saved and scored; what a step is, see `epalm.training.learner`.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.utils import set_seed
from torch import Tensor

from epalm.data.file_features import Media, OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import TrainingStopped
from epalm.models import PerceptualLM
from epalm.recipe import TrainingSettings
from epalm.runtime.notices import OnWarning, python_warning
from epalm.runtime.processes import refusing_environment, without_gpu
from epalm.runtime.torch_defaults import torch_defaults
from epalm.tasks import Tasks
from epalm.training.batches import Batches
from epalm.training.checkpoints import Checkpoint, Checkpoints
from epalm.training.checks import check_rows, check_settings
from epalm.training.divergence import loss_error, require_finite
from epalm.training.learner import Learner
from epalm.training.randomness import random_states, restore_random_states
from epalm.training.schedule import total_steps
from epalm.training.selection import Selection, lower_is_better
from epalm.training.stopping import StopRequests, heeding_signals
from epalm.training.trackers import start_trackers

_SECONDS_BETWEEN_LOOKS = 1.0
"""Whoever asks for the end has an answer in about this time, and a step."""
_STEPS_BETWEEN_LOOKS = 10
_SCORES = 10
"""On the way, where their number is not said."""


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
    changed: bool = True
    """Whether any trained value is another than before."""

    def smoothed(self, window: int = 20) -> list[float]:
        """Running mean of the losses."""
        means, total = [], 0.0
        for step, loss in enumerate(self.losses):
            total += loss - (self.losses[step - window] if step >= window else 0.0)
            means.append(total / min(step + 1, window))
        return means


@torch_defaults()
def train(
    model: PerceptualLM,
    rows: Sequence[Row],
    tasks: Tasks,
    settings: TrainingSettings,
    *,
    perceived: PerceivedFiles | None = None,
    on_progress: OnProgress | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_warning: OnWarning | None = None,
    checkpoints: Checkpoints | None = None,
    score: Callable[[], float] | None = None,
    log_directory: Path | None = None,
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
        on_warning: told of damaged checkpoints, and of a run that has changed nothing; unset: Python's `warnings`.
        checkpoints: where the run is saved on the way; it goes on from what lies there. With them Ctrl-C and SIGTERM
            end the run in order.
        score: how good the model is now, by `settings.metric`; called every `settings.validate_every` steps (unset: a
            tenth of them), and the best adapter is the one that stays.
        log_directory: where the trackers of `settings.report_to` write that write files.
        where: the manifest, for messages.

    Raises:
        AdapterError: a checkpoint cannot be written.
        ConfigError: the model cannot be trained as `settings` say, or a checkpoint is of a run with others; or
            gradients are beyond the range of float16, which the language model is held in.
        DataError: there are no rows, a row cannot be trained on, or a loss or a trained value is not a finite number.
        MediaError: a file cannot be read.
        TrainingStopped: the run was asked to stop, and has been saved.
        UnsupportedModelError: the language model's tokenizer is missing or another model's.
    """
    on_warning = on_warning or python_warning
    check_rows(rows, tasks, model, where)
    check_settings(model, settings)
    model.metadata["text"] = tasks.template.model_dump(mode="json")  # whoever saves it: it answers as it is trained
    set_seed(settings.seed)
    perceived = perceived or PerceivedFiles.of_model(model)
    media = [{name: path for name, path in row.media.items() if name in model.levels} for row in rows]
    perceived.perceive(media, on_progress, training=True)
    run = _Run(model, rows, tasks, settings, perceived, media, log_directory)
    with heeding_signals() if checkpoints else nullcontext(StopRequests()) as requests:
        if checkpoints and (saved := checkpoints.newest(on_warning)):
            run.restore(saved)
        with model.compiled_layers() if settings.compile else nullcontext():
            log = run.run(requests, checkpoints, on_step, score)
    if not log.changed:
        on_warning(
            f"training: nothing was learned: in {len(log.losses)} steps no trained value has changed; either "
            f"training.learning_rate {settings.learning_rate:g} is too small to move one, or no gradient reaches them"
        )
    return log


class _Run:
    """A run under way."""

    def __init__(
        self,
        model: PerceptualLM,
        rows: Sequence[Row],
        tasks: Tasks,
        settings: TrainingSettings,
        perceived: PerceivedFiles,
        media: Sequence[Media],
        log_directory: Path | None,
    ) -> None:
        self.model, self.rows, self.settings, self.media = model, rows, settings, media
        self.beginning = {name: value.to("cpu", copy=True) for name, value in model.trained_state_dict().items()}
        """What is trained, as the run finds it, though it be resumed."""
        # Captions are longer than answers: apart, neither is padded to the other's length.
        kinds = [(row.task, frozenset(files)) for row, files in zip(rows, media, strict=True)]
        lengths = [_length(row) for row in rows] if settings.group_by_length else None
        self.batches = Batches(kinds, settings.batch_size, settings.seed, lengths)
        self.steps = total_steps(settings, len(self.batches))
        with refusing_environment():
            self.accelerator = Accelerator(
                device_placement=False,  # the model is where the recipe says
                cpu=without_gpu(),
                # What is held in which precision is the recipe's to say, not the launcher's. What a caller has set up
                # stays, and does nothing: it is for models that accelerate prepares.
                mixed_precision=None if is_initialized() else "no",
                log_with=list(settings.report_to) or None,
                project_dir=log_directory,
            )
        if settings.report_to:
            start_trackers(self.accelerator)
        self.learner = Learner(model, self.accelerator, tasks, perceived, settings, self.steps)
        self.step, self.losses = 0, list[float]()
        self.last_read, self.next_read = time.perf_counter(), 1
        """When losses were read, and the step after which they are next."""
        self.pending: list[tuple[Tensor, float]] = []
        """Of the steps that have not been read yet: this process's share of the loss, and the rate."""
        self.selection = Selection(settings.patience, lower_is_better(settings.metric))

    def run(
        self,
        requests: StopRequests,
        checkpoints: Checkpoints | None,
        on_step: Callable[[int, int, float], None] | None,
        score: Callable[[], float] | None,
    ) -> TrainingLog:
        """All steps that are left."""
        started, settings = time.perf_counter(), self.settings
        self.last_read, self.next_read = started, self.step + 1
        batches = self.batches.after(self.step)
        self.model.train()
        if score is not None and self._is_scored() and not self.selection.has(self.step):
            self._select(score)  # the run ended before, or while, it was done
        while self.step < self.steps and not self.selection.is_over:
            self._learn(next(batches))
            scores = score is not None and self._is_scored()
            # Scores and what comes after the last step may take long: whatever happens there, all is learned.
            saves = scores or self.step == self.steps or self.step % settings.checkpoint_every == 0
            stops = (saves or self.step >= self.next_read) and self._read_losses(requests, on_step)
            if saves or stops:
                require_finite(self.model, self.step)
            if checkpoints is not None and (saves or stops):
                self._save(checkpoints)
                if stops:
                    raise self._stopped(requests, checkpoints)
            if score is not None and scores:
                self._select(score)
        if checkpoints is not None and score is not None and self._read_losses(requests, on_step):
            raise self._stopped(requests, checkpoints)
        if self.selection.best is not None:
            self.model.load_trained_state_dict(self.selection.best)
        self.model.eval()
        for tracker in self.accelerator.trackers:  # `end_training` would also part the processes
            tracker.finish()
        seconds, selection = time.perf_counter() - started, self.selection
        trained = self.model.trained_state_dict().items()
        changed = any(not torch.equal(value.cpu(), self.beginning[name]) for name, value in trained)
        return TrainingLog(tuple(self.losses), seconds, tuple(selection.scores), selection.best_step, changed)

    def restore(self, saved: Checkpoint) -> None:
        """Be where the run was when `saved` was written."""
        self.model.load_trained_state_dict(saved.tensors["adapter"])
        self.learner.restore(saved.tensors["optimizer"], saved.state["learner"])
        best = saved.tensors.get("best")
        best_tensors = None if best is None else {name: tensor.to(self.model.device) for name, tensor in best.items()}
        self.selection.restore(saved.state["selection"], best_tensors)
        self.step, self.losses = saved.step, list(saved.state["losses"])
        for step, numbers in zip(range(self.step), self.batches.after(0), strict=False):
            if not self.learner.replay(step, [self.rows[number] for number in numbers]):
                break
        restore_random_states(saved.state["random"], self.accelerator.process_index)

    def _learn(self, numbers: Sequence[int]) -> None:
        """One step on the rows of these numbers."""
        rate = self.learner.rate
        rows, media = [self.rows[number] for number in numbers], [self.media[number] for number in numbers]
        self.pending.append((self.learner.learn(self.step, rows, media), rate))
        self.step += 1

    def _read_losses(self, requests: StopRequests, on_step: Callable[[int, int, float], None] | None) -> bool:
        """Read the losses that are pending, and whether any process was asked to stop.

        It waits for the device and for the other processes, which all look after the same steps: by how long theirs
        took. A CPU alone has nothing to wait for.
        """
        device, processes = self.model.device, self.accelerator.num_processes
        stop, elapsed = float(requests.number > 0), time.perf_counter() - self.last_read
        own = torch.stack([*(share for share, _ in self.pending), *torch.tensor([stop, elapsed], device=device)])
        *losses, stops, elapsed = self.accelerator.reduce(own, reduction="sum").tolist()
        steps = 1
        if processes > 1 or device.type != "cpu":
            steps = round(_SECONDS_BETWEEN_LOOKS / max(elapsed / processes / max(1, len(losses)), 1e-3))
        self.last_read, self.next_read = time.perf_counter(), self.step + min(max(1, steps), _STEPS_BETWEEN_LOOKS)
        pending, self.pending = self.pending, []
        for loss, (_, rate) in zip(losses, pending, strict=True):
            step = len(self.losses) + 1
            if not math.isfinite(loss):
                raise loss_error(loss, step, self.model)
            self.losses.append(loss)
            self.accelerator.log({"loss": loss, "rate": rate}, step=step)
            if on_step is not None:
                on_step(step, self.steps, loss)
        return bool(stops)

    def _stopped(self, requests: StopRequests, checkpoints: Checkpoints) -> TrainingStopped:
        """What tells of the end that was asked for."""
        return TrainingStopped(
            f"stopped after step {self.step} of {self.steps}; what was learned is in {checkpoints.directory}; the same "
            "command with --resume goes on from there",
            requests.number or signal.SIGTERM,  # it may have come to another process
        )

    def _is_scored(self) -> bool:
        """Whether the adapter is scored after this step, in a run that scores at all."""
        every = self.settings.validate_every or -(-self.steps // _SCORES)
        return self.step > 0 and (self.step == self.steps or self.step % every == 0)

    def _select(self, score: Callable[[], float]) -> None:
        """Score the adapter as it is now, and keep it if it is the best so far."""
        self.model.eval()
        value = score()
        self.selection.offer(self.step, value, self.model.trained_state_dict())
        self.accelerator.log({"score": value}, step=self.step)
        self.model.train()

    def _save(self, checkpoints: Checkpoints) -> None:
        """Every process tells its random state; the main one writes."""
        states = random_states(self.accelerator)
        if self.accelerator.is_main_process:
            tensors = {"adapter": self.model.trained_state_dict(), "optimizer": self.learner.optimizer_tensors()}
            if self.selection.best is not None:
                tensors["best"] = self.selection.best
            state = {
                "losses": self.losses,
                "learner": self.learner.state(),
                "selection": self.selection.as_dict(),
                "random": states,
            }
            checkpoints.save(Checkpoint(self.step, tensors, state))
        self.accelerator.wait_for_everyone()


def _length(row: Row) -> int:
    """About how long the row's text is, in letters: rows are grouped by it, so it need not be exact."""
    return len(row.question or "") + max(map(len, row.targets))
