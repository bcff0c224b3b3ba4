"""What is looked at before training begins: every row, and settings that not every model can be trained with."""

from __future__ import annotations

from collections.abc import Sequence

from epalm.data.rows import Row
from epalm.errors import DataError
from epalm.models import PerceptualLM
from epalm.recipe import TrainingSettings
from epalm.tasks import Tasks
from epalm.tasks.admission import name_of, require_perceived, require_room, require_tokenizer
from epalm.training.learner import parameter_groups
from epalm.training.trackers import require_trackers


def check_rows(rows: Sequence[Row], tasks: Tasks, model: PerceptualLM, where: str = "") -> None:
    """See that `model` can be trained on every row.

    Raises:
        DataError: there are no rows, or one has no target, brings nothing that is perceived, or is too long.
        UnsupportedModelError: the language model has no tokenizer, or its chat template refuses a row.
    """
    if not rows:
        raise DataError("training: there are no rows to train on")
    for row in rows:
        if not row.targets or row.counts_as_wrong:
            raise DataError(f"{name_of(row, where)}: has no answer or caption to train on")
    require_tokenizer(model)
    require_perceived(rows, model.levels, where)
    for row in {row.task: row for row in rows}.values():
        tasks.prompt_ids(row)  # a chat template may refuse a caption's
    require_room(rows, tasks, model, with_targets=True, where=where)


def check_settings(model: PerceptualLM, settings: TrainingSettings) -> None:
    """See that `model` can be trained so.

    Raises:
        ConfigError: nothing in it can be trained, its lower layers cannot be kept, its layers cannot be compiled, or a
            tracker is not there.
    """
    require_trackers(settings.report_to)
    parameter_groups(model, settings)
    if settings.cache_lower_layers:
        model.lower_layers()
    if settings.compile:
        model.compiled_layers()
