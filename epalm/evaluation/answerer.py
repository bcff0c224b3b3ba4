"""From files to answers: decode, perceive, generate, read the answer out.

This is what a trained adapter is for, in three calls: `Answerer.load`, `caption` and `ask`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from epalm.admission import require_known_tokens, require_perceived, require_room, require_tokenizer
from epalm.data.collate import collate
from epalm.data.features import OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import AdapterError
from epalm.evaluation.asking import Asked
from epalm.evaluation.loading import load_adapter
from epalm.evaluation.perceiving import perceived_files
from epalm.models import PerceptualLM
from epalm.recipe import DataSettings, GenerationSettings
from epalm.tasks import Tasks, TextTemplate


class Answerer(Asked):
    """An adapter on its backbones, ready to be asked.

    Args:
        model: trained, or not.
        template: how text was written in training.
        generation: beams, lengths, batch size.
        perceived: features of files; unset: every call of `answer` perceives its files anew, each once.
        data: how files are perceived where `perceived` is unset.

    Raises:
        AdapterError: the model was trained on ready features, and has no encoder.
        UnsupportedModelError: the language model has no usable tokenizer.
    """

    def __init__(
        self,
        model: PerceptualLM,
        template: TextTemplate | None = None,
        generation: GenerationSettings | None = None,
        perceived: PerceivedFiles | None = None,
        data: DataSettings | None = None,
    ) -> None:
        require_tokenizer(model)
        self.model = model.eval()
        self.tasks = Tasks(model.tokenizer, template)
        self.generation = generation or GenerationSettings()
        self._given, self._data = perceived, data or DataSettings()
        self.modalities = tuple(model.levels)
        """What is perceived."""
        blind = set(self.modalities) - set(model.encoders.keys()) - set(self._data.features)
        if perceived is None and blind:
            modality = min(blind)
            raise AdapterError(
                f"the adapter was trained on ready {modality} features; name an encoder (model.encoders), or where "
                f"features are (data.features.{modality})"
            )

    @classmethod
    def load(
        cls,
        adapter: str | Path,
        overrides: Mapping[str, Any] | None = None,
        *,
        language_model: PerceptualLM | None = None,
    ) -> Answerer:
        """A saved adapter with the backbones and settings it names.

        Args:
            adapter: directory or hub id.
            overrides: dotted settings to change, of `model`, `text` and `generation`, and how files are perceived.
            language_model: share this model's language model, such as another answerer's, instead of loading one.

        Raises:
            AdapterError: the adapter is damaged or does not fit its backbones, or those are not there.
            ConfigError: a setting is wrong or has no effect any more, or a backbone cannot be loaded.
            UnsupportedModelError: a backbone cannot be served.
        """
        model, recipe = load_adapter(adapter, overrides, language_model)
        return cls(model, recipe.text, recipe.generation, data=recipe.data)

    def answer(self, rows: Sequence[Row], on_progress: OnProgress | None = None, where: str = "") -> list[str]:
        """An answer for every row, in their order; which rows share a batch changes nothing.

        Args:
            rows: their targets are not looked at.
            on_progress: told of perceiving and answering.
            where: the manifest, for messages.

        Raises:
            DataError: a row brings nothing that the model perceives, or its text is too long for the language model.
            MediaError: a file cannot be read.
        """
        self.check(rows, where)
        media = [{name: path for name, path in row.media.items() if name in self.modalities} for row in rows]
        perceived = self._given or perceived_files(self.model, self._data, place=None)
        perceived.perceive(media, on_progress)
        prompts = [self.tasks.prompt_ids(row) for row in rows]
        answers = [""] * len(rows)
        done = 0
        for group, new_tokens in self._groups(media, prompts):
            batch = collate([(prompts[i], []) for i in group], self.tasks.pad_id, side="left")
            require_known_tokens(batch.input_ids, self.model)
            new_ids = self.model.generate(
                batch.input_ids,
                batch.attention_mask,
                features=perceived.of([media[i] for i in group]) or None,
                num_beams=self.generation.num_beams,
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=self.tasks.pad_id,
                eos_token_id=self.tasks.eos_id,
            )
            for i, ids in zip(group, new_ids.tolist(), strict=True):
                answers[i] = self.tasks.of(rows[i]).read_ids(ids)
            done += len(group)
            if on_progress is not None:
                on_progress("answering", done, len(rows))
        return answers

    def check(self, rows: Sequence[Row], where: str = "") -> None:
        """See that every row can be answered; nothing is read or computed for it.

        Raises:
            DataError: a row brings nothing that the model perceives, or its text is too long for the language model.
        """
        require_perceived(rows, self.modalities, where)
        require_room(rows, self.tasks, self.model, with_targets=False, where=where)

    def _groups(
        self, media: Sequence[Mapping[str, Path]], prompts: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], int]]:
        """Rows of each batch, and how many new tokens each of them may have.

        Rows of one batch bring the same modalities and may say equally much, so that none of them depends on another;
        prompts of like length go together, which leaves less padding.
        """
        limit, most = self.model.anatomy.position_limit, self.generation.max_new_tokens

        def kind(i: int) -> tuple[list[str], int]:
            room = most if limit is None else limit + 1 - len(prompts[i])  # the last token needs no position
            return sorted(media[i]), min(most, room)

        order = sorted(range(len(prompts)), key=lambda i: (kind(i), len(prompts[i])))
        for (_, new_tokens), same in groupby(order, key=kind):
            group = list(same)
            for first in range(0, len(group), self.generation.batch_size):
                yield group[first : first + self.generation.batch_size], new_tokens
