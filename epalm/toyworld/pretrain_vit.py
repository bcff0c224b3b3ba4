"""Pretrains the toy world's image encoder: a ViT on pictures alone, with attribute labels, as ImageNet's are.

    python -m epalm.toyworld.pretrain_vit

No text is involved. Labels say, for each place, what stands there (shape, colour, texture, size, count), for each
shape, each colour and each rank in reading order whether it occurs and how, and whether the ground is light. Linear
heads read them off the [CLS] token of the last level, and with less weight off the levels before it; one more reads off
each patch what covers it. In a second stage the ranks alone are asked for, of the last three levels, so that [CLS] has
room for what each group is like; in a third, no group has three attributes with a name, so that none of their
combinations can be learned as the usual one. The heads are dropped afterwards.
"""

from __future__ import annotations

import random
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from epalm.toyworld.pictures.render import SIDE, draw_with_owners
from epalm.toyworld.pictures.world import (
    COLORS,
    COUNTS,
    FOREIGN_COLORS,
    FOREIGN_SHAPES,
    FOREIGN_TEXTURES,
    PLACES,
    SHAPES,
    SIZES,
    TEXTURES,
    Group,
    Scene,
    draw_scene,
)
from epalm.toyworld.pretrain import half_where_it_pays, options_parser, pretrain

HOME = Path(__file__).parent / "backbones" / "vit"
MEAN = STD = 0.5
ABSENT = 0  # class 0 of every head: nothing to tell
NAMELESS = -1  # there is something, but no class for it
_ATTRIBUTES: dict[str, tuple[object, ...]] = {
    "shape": SHAPES,
    "color": tuple(COLORS),
    "texture": TEXTURES,
    "size": SIZES,
    "count": COUNTS,
    "place": PLACES,
}
Keys = dict[str, tuple[object, ...]]
"""What groups are told apart by, and each of its values."""
ALL_KEYS: Keys = {"place": PLACES, "shape": SHAPES, "color": tuple(COLORS), "order": (0, 1, 2, 3)}
RANKS: Keys = {"order": (0, 1)}
PATCH = 12
PATCH_LABEL_SIZES = [len(_ATTRIBUTES[attribute]) + 1 for attribute in _ATTRIBUTES if attribute != "place"]
PATCH_LEVEL = 4  # blocks after which the patches are asked; those behind it are left to gather


def label_sizes(keys: Keys) -> list[int]:
    """Classes of every head, in the order of `labels_of`."""
    sizes = [
        len(values) + 1
        for key, names in keys.items()
        for _ in names
        for attribute, values in _ATTRIBUTES.items()
        if attribute != key
    ]
    return [*sizes, 2]


def labels_of(scene: Scene, keys: Keys) -> list[int]:
    """Class of every head: for each value of each key the attributes of the group it belongs to, then the ground.

    Where two groups share a colour, that colour's heads speak of the first.
    """
    labels = []
    for key, names in keys.items():
        for name in names:
            ranked = enumerate(scene.groups)
            group = next((g for rank, g in ranked if (rank if key == "order" else getattr(g, key)) == name), None)
            labels += [_class(group, attribute) for attribute in _ATTRIBUTES if attribute != key]
    return [*labels, int(scene.ground == "dark")]


def _class(group: Group | None, attribute: str) -> int:
    if group is None:
        return ABSENT
    value, known = getattr(group, attribute), _ATTRIBUTES[attribute]
    return 1 + known.index(value) if value in known else NAMELESS


def patch_labels_of(scene: Scene, owners: np.ndarray) -> np.ndarray:
    """Attributes of the group that covers at least an eighth of each patch: (patches, heads)."""
    across = SIDE // PATCH
    cut = owners.reshape(across, PATCH, across, PATCH)
    labels = np.zeros((across, across, len(PATCH_LABEL_SIZES)), dtype=np.int64)
    for number, group in enumerate(scene.groups, start=1):
        covered = (cut == number).mean(axis=(1, 3)) >= 1 / 8
        labels[covered] = [_class(group, attribute) for attribute in _ATTRIBUTES if attribute != "place"]
    return labels.reshape(across * across, -1)


class AttributeHeads(nn.Module):
    """Several classifiers as one linear layer: (N, E) -> (N, sum of classes)."""

    def __init__(self, width: int, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.linear = nn.Linear(width, sum(sizes))
        self.owner: Tensor
        self.starts: Tensor
        owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self.register_buffer("owner", owner, persistent=False)
        self.register_buffer("starts", torch.tensor(sizes).cumsum(0) - torch.tensor(sizes), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """(B, E) -> (B, C), the classes of all heads side by side."""
        logits: Tensor = self.linear(states)
        return logits

    def loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over heads; heads that have something to tell weigh as much as all the absent ones."""
        logits = self(states)  # (B, C)
        owner = self.owner.expand_as(logits)
        peak = logits.new_full((len(logits), len(self.sizes)), -torch.inf).scatter_reduce(1, owner, logits, "amax")
        mass = torch.zeros_like(peak).scatter_add(1, owner, (logits - peak.detach().gather(1, owner)).exp())
        picked = logits.gather(1, labels.clamp(min=0) + self.starts)
        losses = mass.log() + peak.detach() - picked  # (B, heads)
        present, absent = losses[labels > ABSENT], losses[labels == ABSENT]
        return present.sum() / max(1, present.numel()) + absent.sum() / max(1, absent.numel())

    def right(self, states: Tensor, labels: Tensor) -> Tensor:
        """Which heads that have something to tell are right, over all such heads and pictures."""
        guesses = torch.stack([part.argmax(-1) for part in self(states).split(self.sizes, dim=-1)], dim=1)
        return (guesses == labels)[labels > ABSENT]


def _estranged(group: Group, rng: random.Random) -> Group:
    """The group with one attribute that has no name, and any combination of the other two."""
    group = replace(group, color=rng.choice(tuple(COLORS)), texture=rng.choice(TEXTURES))
    attribute = rng.choice(("shape", "color", "texture"))
    if attribute == "shape":
        return replace(group, shape=rng.choice(FOREIGN_SHAPES))
    if attribute == "color":
        return replace(group, color=rng.choice(tuple(FOREIGN_COLORS)))
    return replace(group, texture=rng.choice(FOREIGN_TEXTURES))


def draw_batch(
    rng: random.Random, size: int, keys: Keys, *, held_out: bool = False, crowded: float = 0.0, foreign: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel values (B, 3, side, side), labels (B, heads) and patch labels (B, patches, patch heads) of fresh scenes.

    The share `crowded` of them holds three or four groups, more than any scene elsewhere: more to learn from a picture.
    The share `foreign` of the groups has an attribute without a name.
    """
    numbers = [rng.choice((3, 4)) if rng.random() < crowded else None for _ in range(size)]
    scenes = [draw_scene(rng, held_out=held_out, groups=number) for number in numbers]
    if foreign:
        scenes = [
            replace(scene, groups=tuple(_estranged(g, rng) if rng.random() < foreign else g for g in scene.groups))
            for scene in scenes
        ]
    drawn = [draw_with_owners(scene, rng) for scene in scenes]
    pictures = np.stack([np.asarray(picture) for picture, _ in drawn])
    pixels = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    patches = [patch_labels_of(scene, np.asarray(owners)) for scene, (_, owners) in zip(scenes, drawn, strict=True)]
    return pixels, torch.tensor([labels_of(scene, keys) for scene in scenes]), torch.from_numpy(np.stack(patches))


@dataclass(frozen=True)
class Stage:
    """A part of the pretraining: what is asked for, and how much each of the levels weighs, the last one last."""

    keys: Keys
    weights: tuple[float, ...]
    crowded: float
    """Share of crowded scenes in its beginning; it falls to none."""
    foreign: float
    """Share of groups with an attribute that has no name."""


STAGES = (
    Stage(ALL_KEYS, (0.05, 0.1, 0.15, 0.2, 0.25, 1.0), crowded=0.6, foreign=0.0),
    Stage(RANKS, (0.3, 0.6, 1.0), crowded=0.0, foreign=0.5),
    Stage(RANKS, (0.3, 0.6, 1.0), crowded=0.0, foreign=1.0),
)


def pretrain_stage(vit: ViTModel, stage: Stage, steps: int, rate: float, options: Namespace, state_file: Path) -> None:
    """Train `vit` in place, under heads of the stage's own."""
    heads = AttributeHeads(vit.config.hidden_size, label_sizes(stage.keys))
    patch_heads = AttributeHeads(vit.config.hidden_size, PATCH_LABEL_SIZES)
    model = nn.ModuleDict({"vit": vit, "heads": heads, "patch_heads": patch_heads})

    def loss_at(step: int) -> Tensor:
        rng = random.Random(f"vit {options.seed} {step}")
        crowded = stage.crowded * (1 - step / steps)
        pixels, labels, patch_labels = draw_batch(
            rng, options.batch, stage.keys, crowded=crowded, foreign=stage.foreign
        )
        with half_where_it_pays():
            states = [state.float() for state in vit(pixel_values=pixels, output_hidden_states=True).hidden_states]
        levels = zip(stage.weights, states[-len(stage.weights) :], strict=True)
        whole = sum(weight * heads.loss(vit.layernorm(state[:, 0]), labels) for weight, state in levels)
        patches = vit.layernorm(states[PATCH_LEVEL][:, 1:]).flatten(0, 1)
        return whole + patch_heads.loss(patches, patch_labels.flatten(0, 1))

    def report() -> str:
        words = []
        for name, held_out in (("seen looks", False), ("held-out looks", True)):
            pixels, labels, _ = draw_batch(random.Random("vit check"), 256, stage.keys, held_out=held_out)
            states = vit(pixel_values=pixels).last_hidden_state[:, 0]
            words.append(f"{name} {heads.right(states, labels).float().mean():.4f}")
        return "  ".join(words)

    pretrain(
        model, loss_at, steps=steps, peak_rate=rate, state_file=state_file, report=report, report_every=500,
    )  # fmt: skip


def main() -> None:
    """Pretrain, then write `backbones/vit` in half precision with its processor's settings."""
    parser = options_parser(__doc__, HOME, steps=12_000, batch=32, rate=1.2e-3)
    parser.add_argument(
        "--more-steps", type=int, nargs=2, default=(12_000, 12_000), metavar="N",
        help="of the second and the third stage, at half the rate",
    )  # fmt: skip
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    config = ViTConfig(
        image_size=SIDE, patch_size=PATCH, hidden_size=192, num_hidden_layers=6, num_attention_heads=6,
        intermediate_size=576, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    vit = ViTModel(config, add_pooling_layer=False)
    if options.start_from:
        kept = ViTModel.from_pretrained(options.start_from, add_pooling_layer=False, dtype=torch.float32)
        vit.load_state_dict(kept.state_dict())
    schedule = ((options.steps, options.rate), *((steps, options.rate / 2) for steps in options.more_steps))
    for number, (stage, (steps, rate)) in enumerate(zip(STAGES, schedule, strict=True), start=1):
        pretrain_stage(vit, stage, steps, rate, options, options.state.with_stem(f"{options.state.stem}{number}"))
    vit.half().save_pretrained(options.out)
    size = {"height": SIDE, "width": SIDE}
    ViTImageProcessorPil(size=size, image_mean=[MEAN] * 3, image_std=[STD] * 3, resample=3).save_pretrained(options.out)


if __name__ == "__main__":
    main()
