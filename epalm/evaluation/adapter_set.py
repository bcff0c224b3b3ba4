"""Several adapters on one language model, each answering the inputs that it perceives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epalm.data.file_features import OnProgress
from epalm.data.rows import Row
from epalm.errors import AdapterError, DataError
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.asking import BaseAnswerer
from epalm.evaluation.loading import load_adapters, require_distinct_modalities
from epalm.runtime.notices import OnWarning
from epalm.tasks.admission import name_of, require_perceived


class AdapterSet(BaseAnswerer):
    """Adapters of different modalities on one language model, which is in memory once.

    Every input is answered by the adapter of its modality, with that adapter's own prompt, window, mask, template and
    generation settings: as it would be if that adapter were alone.

    Args:
        members: answerers by a name for messages; their models share one language model.

    Raises:
        AdapterError: there are none, one perceives nothing, two perceive the same, or their language models differ.
    """

    def __init__(self, members: Mapping[str, Answerer]) -> None:
        self.members = dict(members)
        """The answerers, by name."""
        require_distinct_modalities([(name, member.modalities) for name, member in self.members.items()])
        first, *others = self.members
        for name in others:
            if self.members[name].model.language_model is not self.members[first].model.language_model:
                raise AdapterError(
                    f"{name}: has a language model of its own; load it with language_model=, to share that of {first}"
                )
        self.modalities = tuple(name for member in self.members.values() for name in member.modalities)

    @classmethod
    def load(
        cls,
        adapters: Sequence[str | Path],
        overrides: Mapping[str, Any] | None = None,
        *,
        on_warning: OnWarning | None = None,
    ) -> AdapterSet:
        """Saved adapters with the backbones and settings they name; the language model is loaded once.

        Args:
            adapters: directories or hub ids.
            overrides: see `Answerer.load`; each goes to the adapters that it concerns.
            on_warning: see `PerceptualLM.build`.

        Raises:
            AdapterError: see `AdapterSet` and `Answerer.load`.
            ConfigError: a setting is wrong or has no effect any more, or a backbone cannot be loaded.
            UnsupportedModelError: a backbone cannot be served.
        """
        loaded = load_adapters(adapters, overrides, on_warning)
        return cls(
            {
                name: Answerer(model, recipe.text, recipe.generation, data=recipe.data)
                for name, (model, recipe) in loaded.items()
            }
        )

    def answer(self, rows: Sequence[Row], on_progress: OnProgress | None = None, where: str = "") -> list[str]:
        """An answer for every row, in their order, from the adapter that perceives what the row brings.

        Args:
            rows: their targets are not looked at.
            on_progress: told of perceiving and answering, adapter by adapter.
            where: the manifest, for messages.

        Raises:
            DataError: no adapter perceives what a row brings, or several do, or its text is too long.
            MediaError: a file cannot be read.
        """
        shares = self._shares(rows, where)
        for name, numbers in shares.items():
            self.members[name].check([rows[i] for i in numbers], where)
        answers = [""] * len(rows)
        for name, numbers in shares.items():
            texts = self.members[name].answer([rows[i] for i in numbers], on_progress, where)
            for i, text in zip(numbers, texts, strict=True):
                answers[i] = text
        return answers

    def _shares(self, rows: Sequence[Row], where: str) -> dict[str, list[int]]:
        """The numbers of the rows that each member answers."""
        require_perceived(rows, self.modalities, where)
        shares: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            able = [name for name, member in self.members.items() if row.media.keys() & set(member.modalities)]
            if len(able) > 1:
                raise DataError(
                    f"{name_of(row, where)}: brings {' and '.join(row.media)}, which {' and '.join(able)} perceive "
                    "separately; give one of them, or train one adapter on both"
                )
            shares.setdefault(able[0], []).append(i)
        return shares
