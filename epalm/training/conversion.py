"""An original checkpoint -> an adapter directory, with everything that the original did otherwise written down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epalm.errors import AdapterError, ConfigError
from epalm.models import PerceptualLM
from epalm.models.original import OriginalCheckpoint, read_original
from epalm.recipe import build_recipe
from epalm.runtime.notices import OnWarning, python_warning

LEGACY_TEXT = {
    "answer_mark": "</a>",
    "mark_is_token": True,
    "double_question_mark": True,
    "split_special_tokens": False,
}
"""How the original wrote questions and answers."""
_LEGACY_GENERATION = {"max_new_tokens": 30, "suppress_special_tokens": False}
_CHANGEABLE = ("model.", "text.", "generation.", "adapter.start", "adapter.end", "adapter.levels", "output")


def convert_original(
    path: str | Path, overrides: Mapping[str, Any], on_warning: OnWarning = python_warning
) -> PerceptualLM:
    """Write the adapter in an original checkpoint to the directory `output`.

    The checkpoint names neither backbone, so both must be given; its sizes are held against theirs. The adapter gets
    the legacy mask, CLIP's statistics for pixels, the `</a>` mark and the doubled question mark.

    Args:
        path: the `.pth`.
        overrides: dotted settings: `model.language_model`, one of `model.encoders`, `output`, and what the file does
            not tell or shall be otherwise.
        on_warning: told which window was assumed, where neither the file nor a setting says it, and which levels reach
            no layer; and see `PerceptualLM.build`. Unset: Python's `warnings`.

    Returns:
        The model that was written.

    Raises:
        AdapterError: the file is no checkpoint of the original or does not fit the backbones, or nothing can be
            written.
        ConfigError: a setting is wrong or missing, or a backbone cannot be loaded.
        UnsupportedModelError: a backbone cannot be served.
    """
    for name in overrides:
        if not name.startswith(_CHANGEABLE):
            raise ConfigError(f"--{name}: has no effect on a checkpoint that is trained; leave it out")
    if "model.language_model" not in overrides:
        raise ConfigError(
            f"{path} does not name its language model; give --model.language_model, such as facebook/opt-2.7b"
        )
    if not any(name.startswith("model.encoders") for name in overrides):
        raise ConfigError(
            f"{path} does not name its encoder; give one, such as --model.encoders.image google/vit-base-patch16-224"
        )
    original = read_original(path)
    legacy = {
        "adapter": original.settings,
        "text": LEGACY_TEXT,
        "generation": _LEGACY_GENERATION,
    }
    recipe = build_recipe(legacy, overrides, where=original.where)
    if recipe.output is None:
        raise ConfigError("output: nowhere to write the adapter to; give --output DIR")
    if len(recipe.model.encoders) != 1:
        raise ConfigError("model.encoders: an original checkpoint perceives one thing; name one encoder")
    if recipe.adapter.connector == "per_level" and recipe.adapter.levels != original.settings["levels"]:
        raise ConfigError(
            f"adapter.levels: {path} has a linear layer for each of its {original.settings['levels']} levels; leave "
            "it out"
        )
    (modality,) = recipe.model.encoders
    model = PerceptualLM.build(
        recipe.model.language_model,
        recipe.model.encoders,
        recipe.adapter,
        torch_dtype=recipe.model.dtype(),
        device=recipe.model.device_or_best(),
        attn_implementation=recipe.model.attn_implementation,
        frames=recipe.model.frames,
        long_sounds=recipe.model.long_sounds,
        statistics=recipe.model.statistics or (None if modality == "audio" else "clip"),
        on_warning=on_warning,
    )
    _require_sizes(original, model, modality)
    if not original.has_window and not {"adapter.start", "adapter.end"} <= overrides.keys():
        on_warning(
            f"{path} does not tell its window; layers {model.config.start} to {model.config.end} of "
            f"{len(model.anatomy.layers)} and {model.config.levels} levels are assumed; if it was trained with others, "
            "give --adapter.start, --adapter.end and --adapter.levels"
        )
    levels, used = model.levels[modality], model.window.used(model.levels[modality])
    if used < levels:
        left_out = "; their linears are left out" if recipe.adapter.connector == "per_level" else ""
        on_warning(
            f"{path} perceives {levels} levels, and its window, layers {model.config.start} to {model.config.end}, "
            f"takes {used}: as in the original the {levels - used} deepest are never used{left_out}"
        )
    model.load_trained_state_dict(original.tensors(modality, used))
    model_settings = {"torch_dtype": recipe.model.torch_dtype, "attn_implementation": recipe.model.attn_implementation}
    model.save_pretrained(
        recipe.output,
        {
            "model": model_settings,
            "text": recipe.text.model_dump(mode="json"),
            "generation": recipe.generation.model_dump(mode="json"),
            "converted_from": Path(path).name,
        },
    )
    return model.eval()


def _require_sizes(original: OriginalCheckpoint, model: PerceptualLM, modality: str) -> None:
    """See that the file's sizes are those of the backbones."""
    anatomy = model.anatomy
    for part, what, saved, actual in (
        (model.source, "width D", original.width, anatomy.width),
        (model.source, "word-embedding width W", original.embedding_width, anatomy.embedding_width),
        (model.encoders[modality].name, "width E", original.encoder_width, model.perception.widths[modality]),
    ):
        if saved is not None and saved != actual:
            raise AdapterError(
                f"{original.where}: was trained for {what} {saved}, {part} has {actual}; name the one it was trained on"
            )
