"""An adapter as a model of lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval), so that its tasks can score it.

    python -m lmms_eval --model epalm --model_args pretrained=my-adapter --tasks vqav2_val --batch_size 32

It is an entry point of the package, by which lmms-eval finds it, or is passed to `simple_evaluate(model=...)` itself.

What a task shows is written to files for the while, pixels and samples as they are, and answered as any files are. The
adapter's own settings decide how: beams and lengths that a task asks for are those of other models.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from epalm.data.file_features import PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import DataError, UnsupportedModelError
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.inputs import media_of
from epalm.media.files import optional

try:
    from lmms_eval.api.model import lmms
except ImportError:
    raise ImportError('scoring by lmms-eval takes the package lmms_eval: pip install "epalm[lmms-eval]"') from None

_MARKERS = re.compile(r"<(image|video|audio)(_\d+)?>", re.IGNORECASE)


class LmmsEvalModel(lmms):
    """Answers what the tasks of lmms-eval ask.

    Args:
        pretrained: directory or hub id of an adapter.
        batch_size: rows answered at once; unset, or `auto`: as the adapter was trained.
        device: where; unset: a GPU where there is one.
        instructions: ask with all that a task writes. Unset: with its first line, for adapters are trained on bare
            questions, and tasks add how other models should answer.
    """

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str | None = None,
        device: str | None = None,
        instructions: bool = False,
    ) -> None:
        super().__init__()
        overrides = {
            "model.device": device,
            "generation.batch_size": None if batch_size in (None, "auto") else batch_size,
        }
        self.answerer = Answerer.load(
            pretrained, {name: value for name, value in overrides.items() if value is not None}
        )
        self.instructions = instructions

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """An answer to each request, a caption where it asks nothing; cut at the texts that end it."""
        with self._rows(requests) as rows:
            answers = self.answerer.answer(rows)
        return [_cut(text, request.args[1].get("until") or ()) for text, request in zip(answers, requests, strict=True)]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of each request's continuation: its loss, and whether greedy search would have said it.

        The loss is the negative log-likelihood, summed over tokens: as with all models of lmms-eval the choice with the
        least is taken for the answer, whatever the method is called.
        """
        with self._rows(requests) as rows:
            perceived = PerceivedFiles.of_model(self.answerer.model)
            targets = [self._target(request) for request in requests]
            return [self._loss(row, text, perceived) for row, text in zip(rows, targets, strict=True)]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not to be had: an adapter answers one question."""
        raise UnsupportedModelError("lmms-eval: an adapter answers one question and holds no conversation")

    @property
    def device(self) -> torch.device:
        """Where answers are generated; by it lmms-eval gathers what several processes found."""
        return self.answerer.model.device

    @contextmanager
    def _rows(self, requests: Sequence[Any]) -> Iterator[list[Row]]:
        """A row for each request; its files are there inside this context."""
        with tempfile.TemporaryDirectory(prefix="epalm-") as folder:
            rows = []
            for number, request in enumerate(requests):
                if len(request.args) != 6:  # such as acc_mutual_info's, which weighs answers without their question
                    raise UnsupportedModelError("lmms-eval: a request shows nothing; an adapter answers about files")
                context, _, doc_to_visual, doc_id, task, split = request.args
                shown = doc_to_visual(self.task_dict[task][split][doc_id])
                if len(shown) != 1:
                    raise DataError(f"lmms-eval: {task} {doc_id} shows {len(shown)} things; an adapter perceives one")
                path = _as_file(shown[0], Path(folder) / str(number))
                rows.append(Row(media_of(path, self.answerer.modalities), self._question(context)))
            yield rows

    def _question(self, context: str) -> str | None:
        lines = [line.strip() for line in _MARKERS.sub("", context).splitlines() if line.strip()]
        return " ".join(lines if self.instructions else lines[:1]) or None

    def _target(self, request: Any) -> str:
        _, target, _, doc_id, task, split = request.args
        return target if isinstance(target, str) else str(target(self.task_dict[task][split][doc_id]))

    @torch.no_grad()
    def _loss(self, row: Row, text: str, perceived: PerceivedFiles) -> tuple[float, bool]:
        task, model = self.answerer.tasks.of(row), self.answerer.model
        front = task.prompt_ids(row.question)
        target = task.tokenizer.target_ids(text.strip(), task.prompt(row.question))[:-1]  # the end was not asked about
        if not target:
            return 0.0, True
        ids = torch.tensor([[*front, *target]])
        labels = torch.tensor([[-100] * len(front) + target])
        logits = model(ids, labels=labels, features=perceived.of([row.media]) or None).logits.float().cpu()  # (N, V)
        chosen = torch.tensor(target)
        loss = torch.nn.functional.cross_entropy(logits, chosen, reduction="sum")
        return float(loss), bool((logits.argmax(-1) == chosen).all())


def _as_file(shown: Any, stem: Path) -> Path:
    """What a task shows, as a file: a Pillow picture, a sound, a file's content, or a path.

    Sounds are `datasets`' {"array", "sampling_rate"} or its decoder, contents its {"bytes", "path"}.
    """
    if isinstance(shown, dict) and isinstance(shown.get("bytes"), bytes):
        path = stem.with_name(stem.name + Path(shown.get("path") or "").suffix)
        path.write_bytes(shown["bytes"])
        return path
    if isinstance(shown, str | Path):
        return Path(shown)
    if hasattr(shown, "get_all_samples") or (isinstance(shown, dict) and "array" in shown):
        path = stem.with_name(f"{stem.name}.wav")
        optional("soundfile", "audio").write(path, shown["array"], shown["sampling_rate"], subtype="FLOAT")
        return path
    if hasattr(shown, "convert"):
        path = stem.with_name(f"{stem.name}.png")
        shown.convert("RGB").save(path)
        return path
    raise DataError(f"lmms-eval: a task shows a {type(shown).__name__}; pictures, sounds and paths can be perceived")


def _cut(text: str, ends: str | Sequence[str]) -> str:
    """`text` up to the first of `ends` in it."""
    ends = [ends] if isinstance(ends, str) else ends
    return text[: min((text.find(end) for end in ends if end and end in text), default=len(text))]


def manifest() -> Any:
    """What lmms-eval registers as the model `epalm`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("epalm", simple_class_path=f"{__name__}.{LmmsEvalModel.__name__}")
