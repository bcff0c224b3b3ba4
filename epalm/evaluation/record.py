"""An evaluation as a directory: every prediction, the scores, and all that it takes to tell how they came about.

`predictions.jsonl` has a line for each row, `scores.json` scores with intervals and groups, `settings.json` the
settings that answered, the special tokens (all that counts of the language model's own generation settings), versions,
the seed of the training, and fingerprints of the adapter, of its backbones and of the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from epalm.errors import ConfigError
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.scoring import Evaluation
from epalm.runtime.fingerprint import content_fingerprint
from epalm.runtime.outputs import check_writable, write_whole

PREDICTIONS, SCORES, SETTINGS = FILES = ("predictions.jsonl", "scores.json", "settings.json")
"""Of an evaluation."""
_PACKAGES = ("epalm", "torch", "transformers", "tokenizers", "accelerate", "numpy", "pillow", "av", "soundfile", "soxr")


def check_directory(directory: Path) -> None:
    """See that an evaluation can be written there later: it is new, empty, or holds an earlier one.

    Raises:
        ConfigError: it holds other files, or cannot be written.
    """
    if os.path.isdir(directory):  # noqa: PTH112  Path.is_dir raises where a path is too long
        others = {path.name for path in directory.iterdir()}.difference(FILES)
        if others:
            raise ConfigError(
                f"--output: {directory} holds other files, such as {min(others)}; give a new or empty directory"
            )
        check_writable(directory / SCORES, "--output")
    elif os.path.exists(directory):  # noqa: PTH110
        raise ConfigError(f"--output: {directory} is a file; name a directory")
    else:
        check_writable(directory, "--output")


def write_evaluation(
    directory: Path, evaluation: Evaluation, answerer: Answerer, adapter: str, where: str, files: Sequence[Path]
) -> None:
    """Write the three files; an earlier evaluation in the directory is replaced.

    Args:
        directory: made if it is not there.
        evaluation: of `answerer`.
        answerer: what answered.
        adapter: as it was named.
        where: the rows, as they were named.
        files: the manifest or the annotations that they were read from.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        directory.mkdir(exist_ok=True)
        (directory / SCORES).unlink(missing_ok=True)  # without scores there is no evaluation: never half of two
    except OSError as error:
        raise ConfigError(f"--output: {directory} cannot be written: {error.strerror}") from None
    evaluation.write_predictions(directory / PREDICTIONS)
    _write(directory / SETTINGS, settings_of(answerer, adapter, where, files))
    _write(directory / SCORES, {"adapter": adapter, "data": where, **evaluation.as_dict()})


def remove_evaluation(directory: Path) -> None:
    """Take the three files away, where they are: what they tell of is not there any more.

    Raises:
        ConfigError: they cannot be deleted.
    """
    try:
        for name in (SCORES, SETTINGS, PREDICTIONS):
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: {error.filename} cannot be deleted: {error.strerror}") from None


def settings_of(answerer: Answerer, adapter: str, where: str, files: Sequence[Path]) -> dict[str, Any]:
    """What decided the predictions, for JSON; arguments as in `write_evaluation`."""
    model = answerer.model
    card, tokens = model.card(), model.special_tokens
    training = card.metadata.get("training")
    return {
        "adapter": {
            "source": adapter,
            "fingerprint": content_fingerprint(model.trained_state_dict()),
            "settings": card.adapter.model_dump(mode="json"),
        },
        "language_model": {
            **card.language_model.model_dump(mode="json"),
            "torch_dtype": str(model.language_model.dtype).removeprefix("torch."),
            "attn_implementation": model.language_model.config._attn_implementation,
            "device": str(model.device),
        },
        "encoders": {name: encoder.model_dump(mode="json") for name, encoder in card.encoders.items()},
        "text": answerer.tasks.template.model_dump(mode="json"),
        "generation": answerer.generation.model_dump(mode="json"),
        "special_tokens": {
            "begin": tokens.begin,
            "end": list(answerer.end_ids),
            "taught_end": answerer.tasks.eos_id,
            "padding": answerer.tasks.pad_id,
            "suppressed": None if answerer.suppressed is None else answerer.suppressed.as_dict(),
        },
        "data": {
            "rows": where,
            "files": [{"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in files],
            "evaluation_frames": answerer.data.evaluation_frames,
        },
        "seed": training.get("seed") if isinstance(training, dict) else None,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, [json.dumps(content, indent=2), "\n"], "--output")
