"""One optimizer step on one batch: every process learns from its share, and all come to what one alone would.

Each process takes its share of a batch in as many parts as `accumulation` says. A part's loss weighs as much as it has
of the batch's labels, so that the sum over parts and processes is the loss of the whole batch. Drawn answers and views
do not depend on who takes which row, and nor does padding where it is seen.

Where the language model is held in float16, the loss is scaled so that small gradients are not lost. A gradient that
is then beyond float16's range changes nothing: the same step is tried again at half the scale. So a step always learns
from the rows of its number, and counts when it has.

Shapes: B batch, T text tokens, K levels, E encoder width.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from epalm.data.collate import Encoded, collate
from epalm.data.file_features import Media, PerceivedFiles
from epalm.data.rows import Row
from epalm.encoders.token_features import BatchFeatures
from epalm.errors import ConfigError
from epalm.models import PerceptualLM
from epalm.models.loss import predicting
from epalm.recipe import TrainingSettings
from epalm.tasks import Tasks
from epalm.tasks.admission import require_known_tokens
from epalm.training.batches import share_of
from epalm.training.divergence import gradient_error, holds_float16
from epalm.training.feature_dropout import drop_features
from epalm.training.schedule import rate_factors

_FEWEST_TRIES = 17
"""Before a gradient is given up: from GradScaler's first loss scale, 65,536, down to 1."""


class Learner:
    """Model, optimizer and rates.

    Args:
        model: its trained parts are changed in place.
        accelerator: of the run.
        tasks: how rows become text.
        perceived: features of the rows' files.
        settings: the optimisation.
        steps: of the run.

    Raises:
        ConfigError: nothing in the model can be trained, or its lower layers cannot be kept.
    """

    def __init__(
        self,
        model: PerceptualLM,
        accelerator: Accelerator,
        tasks: Tasks,
        perceived: PerceivedFiles,
        settings: TrainingSettings,
        steps: int,
    ) -> None:
        self.unwrapped, self.accelerator, self.tasks, self.perceived = model, accelerator, tasks, perceived
        self.settings, self.steps = settings, steps
        self.optimizer = torch.optim.AdamW(parameter_groups(model, settings), eps=settings.adam_epsilon)
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        factors = [
            rate_factors(settings, steps, of_prompt=group["part"] == "prompt") for group in self.optimizer.param_groups
        ]
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factors)
        _keep_frozen_to_itself(model)
        self.model: torch.nn.Module = model
        if accelerator.num_processes > 1:
            # Without devices named: inputs go where they are needed, and until then the CPU looks at them. Of several
            # modalities a batch may lack one, and then it trains no connector for it.
            self.model = DistributedDataParallel(model, find_unused_parameters=len(model.levels) > 1)
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=holds_float16(model))
        self.lower_layers = model.lower_layers() if settings.cache_lower_layers else None
        self.parts = accelerator.num_processes * settings.accumulation
        first = accelerator.process_index * settings.accumulation
        self.own_parts = range(first, first + settings.accumulation)
        """Those of a batch that this process learns from."""

    @property
    def rate(self) -> float:
        """Of the next step, of connectors and block adapters."""
        return float(self.optimizer.param_groups[-1]["lr"])

    def learn(self, step: int, rows: Sequence[Row], media: Sequence[Media]) -> Tensor:
        """One optimizer step.

        Args:
            step: counts from 0.
            rows: of the whole batch, the same in every process.
            media: the files of each row that are perceived.

        Returns:
            This process's share of the loss, on the model's device: the sum over processes is the loss. Where it is
            not finite in float16, nothing has changed.

        Raises:
            ConfigError: the gradient is beyond float16's range at every loss scale.
            MediaError: a file cannot be read.
            UnsupportedModelError: the tokenizer is another model's.
        """
        for tries in itertools.count(1):
            scale = self.scaler.get_scale()
            share = self._compute_gradients(step, rows, media)
            self._apply_gradients()
            if self.scaler.get_scale() >= scale:
                self.schedule.step()
                break
            # Gradients have been summed over processes, and so none of them has changed anything.
            if not math.isfinite(self.accelerator.reduce(share, reduction="sum").item()):
                break
            if tries >= _FEWEST_TRIES and scale <= 1:
                raise gradient_error(step + 1, tries)
        return share

    def _compute_gradients(self, step: int, rows: Sequence[Row], media: Sequence[Media]) -> Tensor:
        """Forwards and backwards; this process's share of the loss."""
        pairs = self._encoded(step, rows)
        # The legacy mask lets the slot see padding: then every part has that of the whole batch.
        columns = max(sum(map(len, pair)) for pair in pairs) if self.unwrapped.config.mask == "legacy" else 0
        share = torch.zeros((), device=self.unwrapped.device)
        for part in self.own_parts:
            # Every process takes part in every step; where it has no row, what it does weighs nothing.
            places = share_of(range(len(rows)), part, self.parts)
            weight = self._weight([pairs[place] for place in places], pairs)
            places = places or range(1)
            part_pairs = [pairs[place] for place in places]
            features = self.perceived.of([media[place] for place in places], step=step)
            if self.settings.feature_dropout:
                features = drop_features(features, places, step, self.settings)
            with nullcontext() if part == self.own_parts[-1] else self.accelerator.no_sync(self.model):
                loss = weight * self._loss(part_pairs, features, columns)
                # Processes' gradients are averaged, and here they are to be summed.
                self.scaler.scale(loss * self.accelerator.num_processes).backward()
            share += loss.detach()
        return share

    def _apply_gradients(self) -> None:
        """Take the optimizer's step; nothing changes, and the loss scale falls, where a gradient is not finite."""
        if self.settings.clip is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def replay(self, step: int, rows: Sequence[Row]) -> bool:
        """Have the lower layers keep of an earlier step what they kept then; nothing is computed.

        On the CPU a text that is kept may differ by a rounding from one that is not.

        Args:
            step: counts from 0; to be replayed one after the other.
            rows: of the whole batch.

        Returns:
            Whether there is more to be replayed.
        """
        cache = self.lower_layers
        if cache is None or cache.full or self.unwrapped.device.type != "cpu":
            return False
        pairs = self._encoded(step, rows)
        for part in self.own_parts:
            places = share_of(range(len(rows)), part, self.parts) or range(1)
            batch = collate([pairs[place] for place in places], self.tasks.pad_id)
            cache.claim(*predicting(batch.input_ids, batch.attention_mask))
        return True

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """What the optimizer keeps for each trained tensor, by its number and a name."""
        state = self.optimizer.state_dict()["state"]
        return {f"{number}.{name}": value for number, slots in state.items() for name, value in slots.items()}

    def state(self) -> dict[str, Any]:
        """Rates, schedule and loss scale, for JSON."""
        return {
            "rates": [group["lr"] for group in self.optimizer.param_groups],
            "schedule": self.schedule.last_epoch,
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Be as `optimizer_tensors` and `state` told it."""
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            number, _, name = key.partition(".")
            slots.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        groups = [group | {"lr": rate} for group, rate in zip(groups, state["rates"], strict=True)]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.schedule.last_epoch = state["schedule"]
        self.scaler.load_state_dict(state["scaler"])

    def _encoded(self, step: int, rows: Sequence[Row]) -> list[Encoded]:
        """The texts of a step; what is drawn for them depends on the step alone."""
        draws = random.Random(f"{self.settings.seed} {step}")
        return [self.tasks.encode(row, draws) for row in rows]

    def _weight(self, part: Sequence[Encoded], whole: Sequence[Encoded]) -> float:
        """What the loss of some rows counts for in that of the batch."""
        if self.settings.loss_scale == "original":
            return len(part) / len(whole)
        return self._labels(part) / self._labels(whole)

    def _labels(self, pairs: Sequence[Encoded]) -> int:
        """Tokens that are learned, as `collate` labels them."""
        if self.settings.loss_on == "answer":
            return sum(len(pair.target_ids) for pair in pairs)
        return sum(len(pair.prompt_ids) + len(pair.target_ids) - 1 for pair in pairs)

    def _loss(self, pairs: Sequence[Encoded], features: Mapping[str, BatchFeatures], columns: int) -> Tensor:
        """Of some rows of a batch, padded to so many columns at least."""
        batch = collate(pairs, self.tasks.pad_id, loss_on=self.settings.loss_on, least=columns)
        require_known_tokens(batch.input_ids, self.unwrapped)
        output = self.model(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            labels=batch.labels,
            features=features,
            loss_scale=self.settings.loss_scale,
            label_smoothing=self.settings.label_smoothing,
            lower_layers=self.lower_layers,
            skip_logits=True,
        )
        loss: Tensor = output.loss
        return loss


def _keep_frozen_to_itself(model: PerceptualLM) -> None:
    """Have processes not send each other what is frozen: all have it from the same files, maybe a part of it alone."""
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    frozen = [name for name, tensor in tensors if not tensor.requires_grad]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen)


def parameter_groups(model: PerceptualLM, settings: TrainingSettings) -> list[dict[str, object]]:
    """One group a part and kind: the soft prompt has its own rate; vectors and the prompt need not decay."""
    groups: list[dict[str, object]] = []
    all_decay = settings.decay_on == "all"
    for part, parameters in model.trained_parameters().items():
        is_prompt = part == "prompt"
        rate = settings.prompt_learning_rate if is_prompt else None
        for decays in (True, False):
            chosen = [p for p in parameters if (all_decay or (p.ndim >= 2 and not is_prompt)) == decays]
            if chosen:
                decay = settings.weight_decay if decays else 0.0
                groups.append(
                    {"params": chosen, "lr": rate or settings.learning_rate, "weight_decay": decay, "part": part}
                )
    if not groups:
        raise ConfigError("adapter: nothing would be trained; choose a connector or a prompt")
    return groups
