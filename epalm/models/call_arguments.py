"""What a call brings, looked at before anything is computed: tensors of the right kind, or one line that says what is.

Values are looked at where that costs nothing, in main memory: to read them off a GPU would be to wait for it.

Shapes: B batch, T text tokens, K levels, E encoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epalm.encoders import PerceptualEncoder, TokenFeatures
from epalm.errors import DataError

IGNORED = -100
"""The label of a token that is not to be learned."""


def text_of(ids: Any, mask: Any, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask of a call, (B, T) whole numbers each, where they came; without a mask all tokens are real.

    Args:
        ids: `input_ids`.
        mask: `attention_mask`, or None.
        vocabulary: how many tokens the language model has embeddings for.

    Raises:
        DataError: they are no tensors, or not of such numbers or shapes.
    """
    ids = _whole_numbers(ids, "input_ids", "token ids (B, T)")
    if mask is not None:
        mask = _dense(mask, "attention_mask", "1 for real tokens and 0 for padding (B, T)")
    if ids.ndim != 2 or not ids.numel() or (mask is not None and mask.shape != ids.shape):
        shapes = f"{tuple(ids.shape)} and {None if mask is None else tuple(mask.shape)}"
        raise DataError(f"input_ids and attention_mask: expected (B, T) for both, with T at least 1, got {shapes}")
    _require_tokens(ids, "input_ids", vocabulary)
    if mask is None:
        return ids, torch.ones_like(ids)
    if mask.device.type == "cpu" and not ((mask == 0) | (mask == 1)).all():
        raise DataError("attention_mask: expected 1 for real tokens and 0 for padding, got other numbers")
    return ids, mask.long()


def labels_of(labels: Any, ids: Tensor, vocabulary: int) -> Tensor:
    """The labels of a call, (B, T) like its token ids.

    Args:
        labels: as they came.
        ids: (B, T).
        vocabulary: how many logits there are.

    Raises:
        DataError: they are no tensor, or not of such numbers or that shape.
    """
    labels = _whole_numbers(labels, "labels", f"token ids (B, T), {IGNORED} where there is none")
    if labels.shape != ids.shape:
        raise DataError(f"labels: expected {tuple(ids.shape)} like input_ids, got {tuple(labels.shape)}")
    _require_tokens(labels, "labels", vocabulary, but=IGNORED)
    return labels


def answers_of(answers: Any, vocabulary: int) -> list[list[int]]:
    """The tokens of each of a closed set of answers.

    Args:
        answers: sequences of token ids, or tensors or arrays (R,) of them.
        vocabulary: how many logits there are.

    Raises:
        DataError: there are none, or one is empty or holds something else than tokens.
    """
    listed = [each.tolist() if hasattr(each, "tolist") else each for each in ([] if answers is None else answers)]
    if not listed:
        raise DataError("answers: expected at least one, and tokens in each of them")
    for number, answer in enumerate(listed):
        if not isinstance(answer, Sequence) or isinstance(answer, str):
            raise DataError(f"answers: {number} (from 0) is {_kind(answer)}; expected its token ids")
        if not answer:
            raise DataError("answers: expected at least one, and tokens in each of them")
        for token in answer:
            if not isinstance(token, Integral) or not 0 <= int(token) < vocabulary:
                raise DataError(f"answers: {number} (from 0) holds {token!r}; expected tokens, 0 to {vocabulary - 1}")
    return [[int(token) for token in answer] for answer in listed]


def raw_inputs_of(
    pixel_values: Any, inputs: Any, encoders: Mapping[str, PerceptualEncoder], default: str
) -> dict[str, dict[str, Tensor]]:
    """Encoder inputs by name, by modality.

    Args:
        pixel_values: of the `default` modality, or by modality, or what an image processor gives.
        inputs: by name, by modality.
        encoders: by modality.
        default: what `pixel_values` are of where nothing else is said.

    Raises:
        DataError: a modality comes twice or has no encoder, or its inputs are no tensors by name.
    """
    inputs = {} if inputs is None else inputs
    if not isinstance(inputs, Mapping):
        raise DataError(f"inputs: expected {{modality: {{name: tensor}}}}, got {_kind(inputs)}")
    named = dict(inputs)
    for modality, values in _pixels_by_modality(pixel_values, default).items():
        if modality in named:
            raise DataError(f"{modality} is given twice: as pixel_values and in inputs")
        named[modality] = values if isinstance(values, Mapping) else {"pixel_values": values}
    checked = {}
    for modality, values in named.items():
        if modality not in encoders:
            known = ", ".join(encoders) or "none"
            raise DataError(
                f"there is no {modality} encoder here; there are {known}; give {{modality: {{name: tensor}}}}"
            )
        main, *others = encoders[modality].input_names
        if not isinstance(values, Mapping):
            raise DataError(f"inputs: {modality}: expected {{'{main}': tensor}}, got {_kind(values)}")
        for name in {main, *others} & set(values):
            _dense(values[name], f"{modality}: {name}", "what the encoder's processor gives (return_tensors='pt')")
        if main in values and not values[main].is_floating_point():
            raise DataError(
                f"{modality}: {main}: expected floating-point numbers, which the encoder's processor makes, got "
                f"{_kind(values[main])}"
            )
        if main in values and not len(values[main]):
            raise DataError(f"{modality}: {main}: expected a row or more, got {tuple(values[main].shape)}")
        checked[modality] = dict(values)
    return checked


def features_of(features: Any, modalities: Sequence[str]) -> dict[str, Tensor | TokenFeatures]:
    """Ready features by modality; their shapes are for others to look at.

    Args:
        features: (B, K, E) or every token, where there is one modality, or by modality; or None.
        modalities: those that are perceived.

    Raises:
        DataError: they are no tensors of floating-point numbers, or do not say of which modality they are.
    """
    if features is None:
        return {}
    if not isinstance(features, Mapping):
        _dense(_values_of(features), "features", "features (B, K, E), or {modality: tensor}")
        if len(modalities) > 1:
            known = ", ".join(modalities)
            raise DataError(f"features: say of which modality they are, {{modality: tensor}}; one of {known}")
        features = {modalities[0]: features}
    for modality, given in features.items():
        tensor = _dense(_values_of(given), f"{modality} features", "features (B, K, E)")
        if not tensor.is_floating_point():
            raise DataError(f"{modality} features: expected floating-point numbers, got {_kind(tensor)}")
    return dict(features)


def require_shapes(modality: str, encoder: PerceptualEncoder, inputs: Mapping[str, Tensor]) -> None:
    """See that inputs on which an encoder has failed are shaped as those that it makes itself.

    Raises:
        DataError: they are not.
    """
    for name, example in encoder.examples().items():
        if inputs[name].shape[1:] != example.shape[1:]:
            shape = ", ".join(map(str, example.shape[1:]))
            raise DataError(
                f"{modality}: {name}: the encoder cannot take {tuple(inputs[name].shape)}; its own processor gives, "
                f"for instance, (B, {shape})"
            )


def _pixels_by_modality(pixel_values: Any, default: str) -> dict[str, Any]:
    if pixel_values is None:
        return {}
    if not isinstance(pixel_values, Mapping):
        return {default: _dense(pixel_values, "pixel_values", "pixels (B, C, H, W), or {modality: tensor}")}
    if "pixel_values" in pixel_values:  # what an image processor gives
        return {default: pixel_values}
    if not pixel_values:
        raise DataError("pixel_values: expected a tensor, or {modality: tensor}, got nothing")
    return dict(pixel_values)


def _values_of(features: Any) -> Any:
    return features.values if isinstance(features, TokenFeatures) else features


def _dense(value: Any, name: str, what: str) -> Tensor:
    if not isinstance(value, Tensor):
        hint = "; torch.as_tensor makes one of it" if isinstance(value, list | tuple | np.ndarray) else ""
        hint = "; give its tensors by their names" if isinstance(value, Mapping) else hint
        raise DataError(f"{name}: expected a tensor of {what}, got {_kind(value)}{hint}")
    if value.layout != torch.strided or value.is_complex():
        raise DataError(f"{name}: expected a dense tensor of real numbers, got {_kind(value)}")
    return value


def _whole_numbers(value: Any, name: str, what: str) -> Tensor:
    value = _dense(value, name, what)
    if value.is_floating_point() or value.dtype == torch.bool:
        raise DataError(f"{name}: expected a tensor of {what}, whole numbers, got {_kind(value)}")
    return value.long()


def _require_tokens(tokens: Tensor, name: str, vocabulary: int, but: int | None = None) -> None:
    """See that all are tokens of the language model, or the one number that stands for none."""
    if tokens.device.type != "cpu":
        return
    strange = (tokens < 0) | (tokens >= vocabulary)
    if but is not None:
        strange &= tokens != but
    if strange.any():
        raise DataError(f"{name}: {int(tokens[strange][0])} is no token of the language model, 0 to {vocabulary - 1}")


def _kind(value: Any) -> str:
    """What something is, for messages."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f"{str(value.layout).removeprefix('torch.')} "
        return f"a {layout}tensor of {str(value.dtype).removeprefix('torch.')}"
    return f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
