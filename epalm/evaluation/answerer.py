"""From files to answers: decode, perceive, generate, read the answer out.

This is what a trained adapter is for, in three calls: `Answerer.load`, `caption` and `ask`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from epalm.data.collate import TextBatch, collate
from epalm.data.file_features import OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.data.views import Views
from epalm.errors import AdapterError, DataError
from epalm.evaluation.asking import BaseAnswerer
from epalm.evaluation.loading import load_adapter
from epalm.evaluation.perceiving import perceived_files
from epalm.evaluation.vocabulary import read_answers
from epalm.models import PerceptualLM
from epalm.models.sharding import is_sharded
from epalm.recipe import DataSettings, GenerationSettings
from epalm.runtime.notices import OnWarning
from epalm.runtime.processes import ALONE, Processes, all_processes
from epalm.runtime.torch_defaults import torch_defaults
from epalm.tasks import Tasks, TextTemplate
from epalm.tasks.admission import (
    count_embeddings,
    name_of,
    require_known_tokens,
    require_perceived,
    require_room,
    require_tokenizer,
)
from epalm.tasks.suppressed_tokens import SuppressedTokens
from epalm.tasks.template import FORMER_TEXT


class Answerer(BaseAnswerer):
    """An adapter on its backbones, ready to be asked.

    Args:
        model: trained, or not.
        template: how text was written in training; unset: as the model's metadata say, else the default.
        generation: beams, lengths, batch size.
        perceived: features of files; unset: every call of `answer` perceives its files anew, each once.
        data: how files are perceived where `perceived` is unset.

    Raises:
        AdapterError: the model was trained on ready features, and has no encoder.
        ConfigError: the file of answers, or the template in the metadata, cannot be used.
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
        self.tasks = Tasks(model.tokenizer, template or _trained_template(model), count_embeddings(model))
        self.generation = generation or GenerationSettings()
        self._given, self.data = perceived, data or DataSettings()
        self.vocabulary = read_answers(self.generation.answers) if self.generation.answers else []
        """The answers that questions may have; empty: any."""
        self._answers_as_ids: list[list[int]] | None = None
        self.modalities = tuple(model.levels)
        """What is perceived."""
        blind = set(self.modalities) - set(model.encoders.keys()) - set(self.data.features)
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
        on_warning: OnWarning | None = None,
    ) -> Answerer:
        """A saved adapter with the backbones and settings it names.

        Args:
            adapter: directory or hub id.
            overrides: dotted settings to change, of `model`, `text` and `generation`, and how files are perceived.
            language_model: share this model's language model, such as another answerer's, instead of loading one.
            on_warning: see `PerceptualLM.build`.

        Raises:
            AdapterError: the adapter is damaged or does not fit its backbones, or those are not there.
            ConfigError: a setting is wrong or has no effect any more, or a backbone cannot be loaded.
            UnsupportedModelError: a backbone cannot be served.
        """
        model, recipe = load_adapter(adapter, overrides, language_model, on_warning)
        return cls(model, recipe.text, recipe.generation, data=recipe.data)

    @torch_defaults()
    def answer(self, rows: Sequence[Row], on_progress: OnProgress | None = None, where: str = "") -> list[str]:
        """An answer for every row, in their order, whichever rows share a batch and whatever is set for all of torch.

        Where the language model is sharded over processes, all of them must call this with the same rows: each
        answers its share of every batch, and all get the whole.

        Args:
            rows: their targets are not looked at.
            on_progress: told of perceiving and answering.
            where: the manifest, for messages.

        Raises:
            DataError: a row brings nothing that the model perceives, or its text is too long for the language model.
            MediaError: a file cannot be read.
        """
        self.check(rows, where)
        media, perceived = self.perceived_media(rows), self.feature_source()
        prompts = [self.tasks.prompt_ids(row) for row in rows]
        batches = list(self._groups(rows, media, prompts))
        own = [self._own(rows, group) for group, _ in batches]
        perceived.perceive([media[i] for share in own for i in share], on_progress, alone=True)
        answers = [""] * len(rows)
        done = 0
        for (group, new_tokens), numbers in zip(batches, own, strict=True):
            batch = collate([(prompts[i], []) for i in numbers], self.tasks.pad_id, side=self.generation.padding)
            require_known_tokens(batch.input_ids, self.model)
            features = perceived.of([media[i] for i in numbers]) or None
            if self._is_ranked(rows[group[0]]):
                texts = self._ranked(rows[group[0]], batch, features)
            else:
                texts = self._generated([rows[i] for i in numbers], batch, features, new_tokens)
            for share in self._sharers(rows[group[0]]).share(list(zip(numbers, texts, strict=True))):
                for i, text in share:
                    answers[i] = text
            done += len(group)
            if on_progress is not None:
                on_progress("answering", done, len(rows))
        return answers

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Any of these tokens ends an answer: the language model's, the tokenizer's, and the chat template's."""
        ends = dict.fromkeys([*self.model.special_tokens.end, *sorted(self.tasks.end_ids)])
        return tuple(end for end in ends if end < self.model.anatomy.vocabulary)

    @cached_property
    def suppressed(self) -> SuppressedTokens | None:
        """What is never generated; None: nothing is kept from it."""
        if not self.generation.suppress_special_tokens:
            return None
        return self.tasks.suppressed(self.model.anatomy.vocabulary, self.end_ids)

    @property
    def answers_together(self) -> bool:
        """Whether all processes must answer the same rows together, and not each its own."""
        return is_sharded(self.model.language_model)

    @torch_defaults()
    def perceive(self, rows: Sequence[Row], on_progress: OnProgress | None = None) -> None:
        """Fill a store of features together with all other processes, each of which calls this with the same rows.

        Where there is no store nothing is done: each process then perceives what it answers.

        Raises:
            MediaError: a file cannot be read.
        """
        perceived = self.feature_source()
        if perceived.is_shared:
            perceived.perceive(self.perceived_media(rows), on_progress)

    def keeping_features(self) -> Answerer:
        """The same, and features that are kept stay from call to call: each file is perceived once."""
        keeping = copy.copy(self)
        keeping._given = self.feature_source()
        return keeping

    def perceived_media(self, rows: Sequence[Row]) -> list[dict[str, Path]]:
        """Of every row the files that are perceived."""
        return [{name: path for name, path in row.media.items() if name in self.modalities} for row in rows]

    def feature_source(self) -> PerceivedFiles:
        """The features that were given, or where the settings say they are."""
        views = Views(evaluation_frames=self.data.evaluation_frames)
        return self._given or perceived_files(self.model, self.data, views=views, place=None)

    def check(self, rows: Sequence[Row], where: str = "") -> None:
        """See that every row can be answered; nothing is read or computed for it.

        Raises:
            DataError: a row brings nothing that the model perceives, or its text is too long for the language model.
        """
        require_perceived(rows, self.modalities, where)
        require_room(rows, self.tasks, self.model, with_targets=False, where=where)
        limit, ranked = self.model.text_limit, [row for row in rows if self._is_ranked(row)]
        if limit is None or not ranked:
            return
        longest = max(map(len, self._answer_ids(ranked[0])))
        for row in ranked:
            if len(self.tasks.prompt_ids(row)) + longest - 1 > limit:
                raise DataError(
                    f"{name_of(row, where)}: its text leaves no room for the longest of generation.answers, of "
                    f"{longest} tokens; the language model has positions for {limit}"
                )

    def _generated(self, rows: Sequence[Row], batch: TextBatch, features: Any, new_tokens: int) -> list[str]:
        new_ids = self.model.generate(
            batch.input_ids,
            batch.attention_mask,
            features=features,
            keep_padding=self.generation.padding == "right",
            num_beams=self.generation.num_beams,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=list(self.end_ids),
            pad_token_id=self.tasks.pad_id,
            suppress_tokens=None if self.suppressed is None else self.suppressed.ids,
        )
        return [self.tasks.of(row).read_ids(ids, self.end_ids) for row, ids in zip(rows, new_ids.tolist(), strict=True)]

    def _is_ranked(self, row: Row) -> bool:
        return bool(self.vocabulary) and row.task == "question_answering"

    def _answer_ids(self, row: Row) -> list[list[int]]:
        """Tokens of the answers there are; all questions end alike, so that they are the same after each."""
        if self._answers_as_ids is None:
            task = self.tasks.of(row)
            prompt = task.prompt(row.question)
            self._answers_as_ids = [task.tokenizer.target_ids(answer, prompt) for answer in self.vocabulary]
        return self._answers_as_ids

    def _ranked(self, row: Row, batch: TextBatch, features: Any) -> list[str]:
        ranked = self.model.rank(
            self._answer_ids(row),
            batch.input_ids,
            batch.attention_mask,
            features=features,
            top_k=self.generation.rank_top_k,
            pairs=self.generation.batch_size,
        )
        return [self.vocabulary[number] for number in ranked.best]

    def _sharers(self, row: Row) -> Processes:
        """Who shares the batches of such rows.

        A language model that is sharded must be called by all processes equally often. Generation sees to that;
        how many calls a ranking takes depends on its rows, so there every process takes them all.
        """
        return all_processes() if self.answers_together and not self._is_ranked(row) else ALONE

    def _own(self, rows: Sequence[Row], group: list[int]) -> list[int]:
        """Share of this process in a batch; where none is left for it, it takes the first row for company."""
        sharers = self._sharers(rows[group[0]])
        return group[sharers.rank :: sharers.count] or group[:1]

    def _groups(
        self, rows: Sequence[Row], media: Sequence[Mapping[str, Path]], prompts: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], int]]:
        """Rows of each batch, over the processes that share it, and how many new tokens each of them may have.

        Rows of one batch bring the same modalities and may say equally much, so that none of them depends on another;
        prompts of like length go together, which leaves less padding. With the legacy mask, whose slot sees padding,
        there must be none.
        """
        limit, most = self.model.text_limit, self.generation.max_new_tokens
        unpadded = self.model.config.mask == "legacy" and self.generation.padding == "left"

        def kind(i: int) -> tuple[bool, list[str], int, int]:
            room = most if limit is None else limit + 1 - len(prompts[i])  # the last token needs no position
            length = len(prompts[i]) if unpadded else 0
            return self._is_ranked(rows[i]), sorted(media[i]), min(most, room), length

        order = sorted(range(len(prompts)), key=lambda i: (kind(i), len(prompts[i])))
        for (_, _, new_tokens, _), members in groupby(order, key=kind):
            group = list(members)
            size = self.generation.batch_size * self._sharers(rows[group[0]]).count
            for first in range(0, len(group), size):
                yield group[first : first + size], new_tokens


def _trained_template(model: PerceptualLM) -> TextTemplate | None:
    """As training has left it in the model's metadata; None where it has not."""
    text = model.metadata.get("text")
    return TextTemplate.build(FORMER_TEXT | text, "metadata: text") if isinstance(text, dict) else None
