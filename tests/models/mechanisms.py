"""Rival mechanisms on tiny models, with perception of every kind that they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from families import VOCABULARY
from torch import Tensor
from transformers import PreTrainedModel

from epalm.encoders import TokenFeatures
from epalm.models import PerceptualLM
from epalm.models.cards import EncoderCard
from epalm.models.mechanisms import Mechanism
from epalm.settings import PRESETS, AdapterConfig

RIVALS = tuple(name for name, preset in PRESETS.items() if "mechanism" in preset)
WIDTHS = {"audio": 5, "image": 12}
TOKENS = {"audio": 9, "image": 7}
"""N: of sounds at most, of pictures always."""
LEVELS = 5
"""How many the encoders have."""
GRID = (2, 3)
"""Of the picture's patches, behind one [CLS]."""


def rival(lm: PreTrainedModel, preset: str, modalities: tuple[str, ...] = ("image",), **settings: Any) -> PerceptualLM:
    """`lm` with a mechanism on ready features, whose gates are open and whose trained tensors are far from zero."""
    torch.manual_seed(1)
    cards = {
        name: EncoderCard.of_ready_features(WIDTHS[name], LEVELS, LEVELS).model_copy(
            update={
                "tokens": TOKENS[name],
                "special_tokens": int(name == "image"),
                "grid": GRID if name == "image" else None,
            }
        )
        for name in modalities
    }
    config = AdapterConfig.from_preset(preset, **settings)
    model = PerceptualLM.build(lm, config=config, ready_features=cards).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.perception.connector.parameters():
            if parameter.count_nonzero() == 0:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def mechanism_of(model: PerceptualLM) -> Mechanism:
    return model.perception.mechanism


def seen(model: PerceptualLM, rows: int, seed: int = 2) -> dict[str, Any]:
    """Features of every modality of `model`: of sounds as many tokens as a row happens to have."""
    generator = torch.Generator().manual_seed(seed)
    given: dict[str, Any] = {}
    for name, width in model.perception.widths.items():
        levels = model.levels[name]
        if not model.reads_tokens:
            given[name] = torch.randn(rows, levels, width, generator=generator)
            continue
        values = torch.randn(rows, levels, TOKENS[name], width, generator=generator)
        mask = torch.ones(rows, TOKENS[name], dtype=torch.bool)
        if name == "audio":
            mask = (
                torch.arange(TOKENS[name])
                < torch.tensor([TOKENS[name] - 3 * (row % 3) for row in range(rows)])[:, None]
            )
        given[name] = TokenFeatures.of(values, mask)
    return given


def one_row(features: Mapping[str, Any], row: int) -> dict[str, Any]:
    """The features of one row, without the padding that others brought."""
    single = {}
    for name, each in features.items():
        single[name] = each[row : row + 1]
        if isinstance(each, TokenFeatures):
            single[name] = TokenFeatures.padded(single[name].single())
    return single


def questions(rows: int = 3, length: int = 6, seed: int = 3) -> Tensor:
    """(rows, length) token ids, none of them special."""
    return torch.randint(4, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
