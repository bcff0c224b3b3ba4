"""How good the toy world's backbones are on their own, before any adapter.

    python -m epalm.toyworld.measure

Each language model is asked about fresh passages, once read openly and once with the passage left out. Of each encoder,
linear probes are fitted (ridge regression on one-hot labels, from the [CLS] token of its last level) to fresh things of
training combinations, and tried on things of held-out combinations: for each rank in reading order or in time, what
the attributes of that group, act or event are.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, OPTForCausalLM

from epalm.encoders import load_encoder
from epalm.runtime.sources import resolve_source
from epalm.toyworld.clips.render import draw_frames
from epalm.toyworld.clips.world import Clip
from epalm.toyworld.pages import Vocabulary
from epalm.toyworld.pictures.render import draw_picture
from epalm.toyworld.pictures.world import Scene
from epalm.toyworld.reading import reads_openly
from epalm.toyworld.sounds.synthesize import synthesize
from epalm.toyworld.worlds import WORLDS, Thing

LANGUAGE_MODELS = ("toyworld/lm", "toyworld/lm_text")
ENCODERS = {"image": "toyworld/vit", "video": "toyworld/timesformer", "audio": "toyworld/ast"}
_RIDGE = 1e-2


def language_model_reads(name: str, pages: int = 512) -> dict[str, float]:
    """Share of answers that are right to the last token: `open`, and `closed`, which is guessing."""
    source = resolve_source(name)
    model = OPTForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()
    vocabulary = Vocabulary(AutoTokenizer.from_pretrained(source))
    return {
        "open": reads_openly(model, vocabulary, pages),
        "closed": reads_openly(model, vocabulary, pages, closed=True),
    }


def encoder_sees(kind: str, training: int = 4000, held_out: int = 1000) -> dict[str, float]:
    """Accuracy of linear probes on held-out things, by attribute."""
    encoder = load_encoder(ENCODERS[kind])
    known, known_things = _perceived(encoder, kind, training, held_out=False)
    fresh, fresh_things = _perceived(encoder, kind, held_out, held_out=True)
    right: dict[str, list[bool]] = {}
    for attribute in (field.name for field in fields(_parts(known_things[0])[0])):
        values = sorted({getattr(part, attribute) for thing in known_things for part in _parts(thing)})
        for rank in (0, 1):
            learned = [i for i, thing in enumerate(known_things) if len(_parts(thing)) > rank]
            asked = [i for i, thing in enumerate(fresh_things) if len(_parts(thing)) > rank]
            classes = [values.index(getattr(_parts(known_things[i])[rank], attribute)) for i in learned]
            probe = _probe(known[learned], torch.eye(len(values))[classes])
            guesses = probe(fresh[asked]).argmax(1).tolist()
            right.setdefault(attribute, []).extend(
                values[guess] == getattr(_parts(fresh_things[i])[rank], attribute)
                for guess, i in zip(guesses, asked, strict=True)
            )
    return {name: sum(hits) / len(hits) for name, hits in right.items()}


def _parts(thing: Thing) -> tuple[Any, ...]:
    """Groups, acts or events, by rank."""
    if isinstance(thing, Scene):
        return thing.groups
    parts: tuple[Any, ...] = thing.acts if isinstance(thing, Clip) else thing.events
    return parts


def _perceived(encoder: Any, kind: str, number: int, *, held_out: bool) -> tuple[Tensor, list[Thing]]:
    """[CLS] of the last level (N, E) of fresh things, and the things."""
    rng = random.Random(f"measure {held_out}")
    things = [WORLDS[kind].draw(rng, held_out=held_out) for _ in range(number)]
    parts = []
    for first in range(0, number, 100):
        media = [_drawn(thing, rng) for thing in things[first : first + 100]]
        parts.append(encoder.features(encoder.preprocess(media), levels=1)[:, 0])
    return torch.cat(parts), things


def _drawn(thing: Thing, rng: random.Random) -> Any:
    """A thing as its encoder's `preprocess` takes it."""
    if isinstance(thing, Scene):
        return draw_picture(thing, rng)
    return draw_frames(thing, rng, frames=8) if isinstance(thing, Clip) else synthesize(thing, rng)


def _probe(features: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """A linear map from features (N, E) to labels (N, C), by ridge regression with an intercept."""
    padded = _with_one(features)
    gram = padded.T @ padded + _RIDGE * len(padded) * torch.eye(padded.shape[1], dtype=padded.dtype)
    weights = torch.linalg.solve(gram, padded.T @ labels.double())
    return lambda fresh: _with_one(fresh) @ weights


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones(len(features), 1)], dim=1).double()


def main() -> None:
    """Print all tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for source in LANGUAGE_MODELS:
        print(f"{source}, answers right to the last token:")
        for manner, share in language_model_reads(source).items():
            print(f"  {manner:<10} {share:.1%}")
    for kind, source in ENCODERS.items():
        print(f"{source}, linear probes on what was held out:")
        for name, share in encoder_sees(kind).items():
            print(f"  {name:<10} {share:.1%}")


if __name__ == "__main__":
    main()
