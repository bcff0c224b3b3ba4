"""From files to answers: decode, perceive, generate, read the answer out.

This is what a trained adapter is for, in three calls: `Answerer.load`, `caption` and `ask`.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from epalm.data.collate import collate
from epalm.data.features import OnProgress, PerceivedFiles
from epalm.data.rows import MODALITIES, Row
from epalm.errors import DataError
from epalm.models import PerceptualLM
from epalm.recipe import GenerationSettings, Recipe, build_recipe
from epalm.tasks import Tasks, TextTemplate


class Answerer:
    """An adapter on its backbones, ready to be asked.

    Args:
        model: trained, or not.
        template: how text was written in training.
        generation: beams, lengths, batch size.
        perceived: features of files; unset: files are perceived as they come and nothing is kept.

    Raises:
        UnsupportedModelError: the language model has no usable tokenizer.
    """

    def __init__(
        self,
        model: PerceptualLM,
        template: TextTemplate | None = None,
        generation: GenerationSettings | None = None,
        perceived: PerceivedFiles | None = None,
    ) -> None:
        self.model = model.eval()
        self.tasks = Tasks(model.tokenizer, template)
        self.generation = generation or GenerationSettings()
        self.perceived = perceived or PerceivedFiles.of_model(model, keep=False)

    @classmethod
    def load(cls, adapter: str | Path, overrides: Mapping[str, Any] | None = None) -> Answerer:
        """A saved adapter with the backbones and settings it names.

        Args:
            adapter: directory or hub id.
            overrides: dotted settings to change, of `model`, `text` and `generation`.

        Raises:
            AdapterError: the adapter is damaged or does not fit its backbones.
            ConfigError: a setting is wrong, or a backbone cannot be loaded.
        """
        changed = build_recipe({}, overrides, where=str(adapter))
        given = {name: getattr(changed.model, name) for name in changed.model.model_fields_set}
        model = PerceptualLM.from_pretrained(
            adapter,
            **{**given, "torch_dtype": changed.model.dtype(), "device": changed.model.device_or_best()},
        )
        saved = {group: dict(model.metadata.get(group, {})) for group in ("text", "generation")}
        recipe = build_recipe(saved, overrides, where=str(adapter))
        return cls(model, recipe.text, recipe.generation)

    def answer(self, rows: Sequence[Row], on_progress: OnProgress | None = None) -> list[str]:
        """An answer for every row, in their order; which rows share a batch changes nothing.

        Raises:
            DataError: a row brings nothing that the model perceives.
            MediaError: a file cannot be read.
        """
        answers = [""] * len(rows)
        for row in rows:
            self._require_perception(row)
        prompts = [self.tasks.prompt_ids(row) for row in rows]
        # Rows with the same modalities and prompts of like length go together: less padding.
        order = sorted(range(len(rows)), key=lambda i: (sorted(rows[i].media), len(prompts[i])))
        done = 0
        for group in _grouped(order, rows, self.generation.batch_size):
            batch = collate([(prompts[i], []) for i in group], self.tasks.pad_id, side="left")
            new_ids = self.model.generate(
                batch.input_ids,
                batch.attention_mask,
                features=self.perceived.of([rows[i].media for i in group]) or None,
                num_beams=self.generation.num_beams,
                max_new_tokens=self.generation.max_new_tokens,
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

    def caption(self, files: Sequence[str | Path] | str | Path) -> list[str]:
        """A caption for each file.

        Raises:
            MediaError: a file cannot be read.
        """
        listed = [files] if isinstance(files, str | Path) else list(files)
        return self.answer([Row(media={self._modality(file): Path(file)}) for file in listed])

    def ask(self, file: str | Path, question: str) -> str:
        """The answer to a question about a file.

        Raises:
            DataError: the question is empty.
            MediaError: the file cannot be read.
        """
        if not question.strip():
            raise DataError("the question is empty; ask something")
        return self.answer([Row(media={self._modality(file): Path(file)}, question=question)])[0]

    def _modality(self, file: str | Path) -> str:
        """What the file is perceived as: what the model perceives if that is one thing, else by the file's name."""
        known = list(self.perceived.encoders)
        if len(known) == 1:
            return known[0]
        kind = (mimetypes.guess_type(str(file))[0] or "").partition("/")[0]
        if not known:
            return kind if kind in MODALITIES else "image"
        if kind not in known:
            raise DataError(f"{file}: cannot tell whether it is {' or '.join(known)}; give it a name that says so")
        return kind

    def _require_perception(self, row: Row) -> None:
        known = self.perceived.encoders
        if known and not known.keys() & row.media.keys():
            where = f"row {row.number}" if row.number else next(iter(map(str, row.media.values())), "row")
            raise DataError(f"{where}: brings {', '.join(row.media)}, but the adapter perceives {', '.join(known)}")


def _grouped(order: Sequence[int], rows: Sequence[Row], size: int) -> list[list[int]]:
    """`order` cut into batches of at most `size` rows that bring the same modalities."""
    groups: list[list[int]] = []
    for i in order:
        if groups and len(groups[-1]) < size and rows[groups[-1][-1]].media.keys() == rows[i].media.keys():
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def load_model(recipe: Recipe) -> PerceptualLM:
    """The untrained model of a recipe, seeded.

    Raises:
        ConfigError: a backbone or a setting is wrong.
        UnsupportedModelError: a backbone cannot be served.
    """
    torch.manual_seed(recipe.training.seed)
    return PerceptualLM.build(
        recipe.model.language_model,
        recipe.model.encoders,
        recipe.adapter,
        torch_dtype=recipe.model.dtype(),
        device=recipe.model.device_or_best(),
        attn_implementation=recipe.model.attn_implementation,
    )
