"""How good the toy world's backbones are, each on its own: what the language model reads, what the encoder sees.

    python -m epalm.toyworld.measure

The language model answers fresh pages of facts, read in each manner of its pretraining. Of the encoder, linear probes
are fitted (ridge regression on one-hot labels, from the [CLS] token of its last level) to fresh training scenes, and
tried on scenes of held-out combinations.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, OPTForCausalLM

from epalm.encoders import PerceptualEncoder, load_encoder
from epalm.sources import resolve_source
from epalm.toyworld.pictures.render import draw_picture
from epalm.toyworld.pictures.world import COLORS, COUNTS, PLACES, SHAPES, SIZES, TEXTURES, Group, Scene, draw_scene
from epalm.toyworld.pretrain_lm import MANNERS, answers_right

_ATTRIBUTES: dict[str, Sequence[object]] = {
    "color": tuple(COLORS), "texture": TEXTURES, "size": SIZES, "count": COUNTS, "place": PLACES,
}  # fmt: skip
_RIDGE = 1e-2


def language_model_reads(pages: int = 128) -> dict[str, float]:
    """Share of answers that are right to the last token, by manner of reading; pages are fresh."""
    source = resolve_source("toyworld/lm")
    model = OPTForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    with torch.no_grad():
        return {manner: answers_right(model, tokenizer, manner, pages) for manner in MANNERS}


def encoder_sees(training: int = 4000, held_out: int = 1000) -> dict[str, float]:
    """Accuracy of linear probes on held-out scenes: which shapes are there, and of each shape there its attributes."""
    encoder = load_encoder("toyworld/vit")
    known, known_scenes = _perceived(encoder, training, held_out=False)
    fresh, fresh_scenes = _perceived(encoder, held_out, held_out=True)
    right: dict[str, list[bool]] = {"shape": [], **{attribute: [] for attribute in _ATTRIBUTES}}
    for shape in SHAPES:
        there = torch.tensor([[float(scene.with_shape(shape) is not None)] for scene in known_scenes])
        seen = _probe(known, there)(fresh)[:, 0] > 0.5
        truly = [scene.with_shape(shape) is not None for scene in fresh_scenes]
        right["shape"] += [said == true for said, true in zip(seen.tolist(), truly, strict=True)]
        for attribute, values in _ATTRIBUTES.items():
            owners = [(i, group) for i, scene in enumerate(known_scenes) if (group := scene.with_shape(shape))]
            labels = torch.stack([_one_hot(group, attribute, values) for _, group in owners])
            probe = _probe(known[[i for i, _ in owners]], labels)
            asked = [(i, group) for i, scene in enumerate(fresh_scenes) if (group := scene.with_shape(shape))]
            guesses = probe(fresh[[i for i, _ in asked]]).argmax(1).tolist()
            right[attribute] += [
                values[guess] == getattr(group, attribute) for guess, (_, group) in zip(guesses, asked, strict=True)
            ]
    return {name: float(np.mean(hits)) for name, hits in right.items()}


def _perceived(encoder: PerceptualEncoder, number: int, *, held_out: bool) -> tuple[Tensor, list[Scene]]:
    """[CLS] of the last level (N, E) of fresh scenes, and the scenes."""
    rng = random.Random(f"measure {held_out}")
    scenes = [draw_scene(rng, held_out=held_out) for _ in range(number)]
    parts = []
    for first in range(0, number, 100):
        pictures = [draw_picture(scene, rng) for scene in scenes[first : first + 100]]
        parts.append(encoder.features(encoder.preprocess(pictures), levels=1)[:, 0])
    return torch.cat(parts), scenes


def _one_hot(group: Group, attribute: str, values: Sequence[object]) -> Tensor:
    return torch.eye(len(values))[list(values).index(getattr(group, attribute))]


def _probe(features: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """A linear map from features (N, E) to labels (N, C), by ridge regression with an intercept."""
    padded = _with_one(features)
    gram = padded.T @ padded + _RIDGE * len(padded) * torch.eye(padded.shape[1], dtype=padded.dtype)
    weights = torch.linalg.solve(gram, padded.T @ labels.double())
    return lambda fresh: _with_one(fresh) @ weights


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones(len(features), 1)], dim=1).double()


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("language model, answers right to the last token:")
    for manner, share in language_model_reads().items():
        print(f"  {manner:<10} {share:.1%}")
    print("encoder, linear probes on held-out scenes:")
    for name, share in encoder_sees().items():
        print(f"  {name:<10} {share:.1%}")


if __name__ == "__main__":
    main()
