"""Pretrains the toy world's video encoder: a TimeSformer on clips alone, with labels, as Kinetics' are.

    python -m epalm.toyworld.pretrain_timesformer

No text is involved. As the published one started from an encoder of pictures, this one starts from `toyworld/vit`; what
is new in it is the path through time. Labels say for each act in the order of time which shape of which colour does
what, how many things there are, whether one thing acts twice, and whether the ground is dark. Linear heads read them
off the [CLS] token of the last three levels; one more reads off each patch of each frame what covers it and what that
does. The heads are dropped afterwards.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import TimesformerConfig, TimesformerModel, VideoMAEImageProcessorPil, ViTModel

from epalm.toyworld.clips.render import SIDE, draw_with_owners
from epalm.toyworld.clips.world import DEEDS, Act, Clip, draw_clip
from epalm.toyworld.pictures.world import COLORS, SHAPES
from epalm.toyworld.pretrain import half_where_it_pays, options_parser, pretrain
from epalm.toyworld.pretrain_vit import ABSENT, MEAN, STD, AttributeHeads
from epalm.toyworld.pretrain_vit import HOME as PICTURES

HOME = Path(__file__).parent / "backbones" / "timesformer"
FRAMES = 8
PATCH = 12
RANKS = 2
_ATTRIBUTES: dict[str, tuple[str, ...]] = {"shape": SHAPES, "color": tuple(COLORS), "deed": DEEDS}
LABELS = (
    *(f"{attribute} {rank + 1}" for rank in range(RANKS) for attribute in _ATTRIBUTES),
    "things",
    "same thing",
    "ground",
)
"""What each head of [CLS] tells."""
LABEL_SIZES = [*(len(values) + 1 for values in _ATTRIBUTES.values())] * RANKS + [3, 3, 3]
PATCH_LABEL_SIZES = [len(SHAPES) + 1, len(COLORS) + 1, *[len(DEEDS) + 1] * (1 + RANKS)]
WEIGHTS = (0.3, 0.6, 1.0)
PATCH_LEVELS = (3, 4)  # blocks after which the patches are asked; those behind them are left to gather


def labels_of(clip: Clip) -> list[int]:
    """Class of every head, `ABSENT` where there is nothing to tell."""
    acts: list[Act | None] = [*clip.acts, None][:RANKS]
    labels = [_class(act, attribute) for act in acts for attribute in _ATTRIBUTES]
    same = ABSENT if len(clip.acts) == 1 else 1 + (len(clip.things) == 1)
    return [*labels, len(clip.things), same, 1 + (clip.ground == "dark")]


def _class(act: Act | None, attribute: str) -> int:
    return ABSENT if act is None else 1 + _ATTRIBUTES[attribute].index(getattr(act, attribute))


def patch_labels_of(clip: Clip, owners: np.ndarray) -> np.ndarray:
    """Of what covers at least an eighth of each patch: its shape and colour, its deed now, as first and as second act.

    Args:
        clip: what the frames show.
        owners: (frames, side, side), as `draw_with_owners` gives them.

    Returns:
        (patches, heads), the frames of each patch side by side as TimeSformer has them.
    """
    across = SIDE // PATCH
    cut = owners.reshape(len(owners), across, PATCH, across, PATCH)
    labels = np.full((len(owners), across, across, len(PATCH_LABEL_SIZES)), ABSENT)
    for number, thing in enumerate(clip.things, start=1):
        covered = (cut == number).mean(axis=(2, 4)) >= 1 / 8
        mine = [act if (act.shape, act.color) == thing else None for act in clip.acts]
        deeds = [_class(act, "deed") for act in [*mine, None][:RANKS]]
        look = [1 + SHAPES.index(thing[0]), 1 + tuple(COLORS).index(thing[1])]
        for frame in range(len(owners)):
            now = max(deeds) if clip.collision else deeds[frame * len(clip.acts) // len(owners)]
            labels[frame, covered[frame]] = [*look, now, *deeds]
    return labels.transpose(1, 2, 0, 3).reshape(across * across * len(owners), -1)


def draw_moments(rng: random.Random) -> list[float]:
    """Moments of the frames: as a file of twice as many frames has them in evaluation, or half the time in training."""
    middles = rng.random() < 0.5
    return [(2 * number + (1 if middles else rng.randrange(2)) + 0.5) / (2 * FRAMES) for number in range(FRAMES)]


def draw_batch(
    rng: random.Random, size: int, *, held_out: bool = False, alone: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel values (B, N, 3, side, side), labels (B, heads) and patch labels (B, patches, patch heads) of fresh clips.

    In the share `alone` of them one thing acts once; the others are of all kinds.
    """
    kinds = ["once" if rng.random() < alone else None for _ in range(size)]
    clips = [draw_clip(rng, held_out=held_out, kind=kind) for kind in kinds]
    drawn = [draw_with_owners(clip, rng, draw_moments(rng)) for clip in clips]
    frames = np.stack([frames for frames, _ in drawn])
    pixels = (torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255 - MEAN) / STD
    patches = [patch_labels_of(clip, owners) for clip, (_, owners) in zip(clips, drawn, strict=True)]
    return pixels, torch.tensor([labels_of(clip) for clip in clips]), torch.from_numpy(np.stack(patches))


def as_from_files(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Clips (B, N, 3, H, W) as a codec would leave them: half of them with coarse colours, and all a little noisy."""
    light = pixels.mean(dim=2, keepdim=True)
    colors = functional.avg_pool2d((pixels - light).flatten(0, 1), 2)
    coarse = light + functional.interpolate(colors, scale_factor=2.0).reshape_as(pixels)
    coarsened = torch.rand(len(pixels), 1, 1, 1, 1, generator=rng) < 0.5
    noise = torch.randn(pixels.shape, generator=rng) * 0.03 * torch.rand(len(pixels), 1, 1, 1, 1, generator=rng)
    return torch.where(coarsened, coarse, pixels) + noise


def shares_right(heads: AttributeHeads, states: Tensor, labels: Tensor) -> dict[str, float]:
    """How often each head is right where there is something to tell; states (B, E), labels (B, heads)."""
    guesses = torch.stack([part.argmax(-1) for part in heads(states).split(heads.sizes, dim=-1)], dim=1)
    present = labels != ABSENT
    right = ((guesses == labels) & present).sum(0) / present.sum(0)
    return dict(zip(LABELS, right.tolist(), strict=True))


_RENAMED = {  # of the encoder of pictures -> of the one of clips
    "layers.": "encoder.layer.",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def build(pictures: ViTModel) -> TimesformerModel:
    """A model that perceives every frame as `pictures` does, and has yet to learn of time.

    Attention through time begins larger than is the architecture's own habit: with time embeddings of zero and three
    small matrices in a row it would be long in being learned.
    """
    config = TimesformerConfig(
        image_size=SIDE, patch_size=PATCH, num_frames=FRAMES, hidden_size=192, num_hidden_layers=6,
        num_attention_heads=6, intermediate_size=576, attention_type="divided_space_time", hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=0.05,
    )  # fmt: skip
    model = TimesformerModel(config)
    nn.init.normal_(model.embeddings.time_embeddings, std=0.1)
    known = pictures.state_dict()
    across, wide = SIDE // PATCH, round((known["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    edge = (wide - across) // 2
    cls, places = known.pop("embeddings.position_embeddings").split([1, wide * wide], dim=1)
    middle = places.unflatten(1, (wide, wide))[:, edge : edge + across, edge : edge + across].flatten(1, 2)
    taken = {"embeddings.position_embeddings": torch.cat([cls, middle], dim=1)}
    for level in range(config.num_hidden_layers):
        for part in ("weight", "bias"):
            projected = [known.pop(f"layers.{level}.attention.{name}_proj.{part}") for name in "qkv"]
            taken[f"encoder.layer.{level}.attention.attention.qkv.{part}"] = torch.cat(projected)
    for name, tensor in known.items():
        for old, new in _RENAMED.items():
            name = name.replace(old, new)
        taken[name] = tensor
    untold = model.load_state_dict(taken, strict=False)
    assert not untold.unexpected_keys
    assert all("time_embeddings" in key or "temporal" in key for key in untold.missing_keys)
    return model


def save(model: TimesformerModel, folder: Path) -> None:
    """Write the model in half precision, and its processor's settings: clips of 60 x 60 points pass unchanged."""
    model.half().save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    processor = VideoMAEImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=size, image_mean=[MEAN] * 3, image_std=[STD] * 3
    )
    processor.save_pretrained(folder)


def main() -> None:
    """Pretrain, then write `backbones/timesformer` in half precision with its processor's settings."""
    parser = options_parser(__doc__, HOME, steps=2_400, batch=16, rate=6e-4)
    parser.set_defaults(start_from=PICTURES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = build(ViTModel.from_pretrained(options.start_from, add_pooling_layer=False, dtype=torch.float32))
    heads = AttributeHeads(model.config.hidden_size, LABEL_SIZES)
    patch_heads = AttributeHeads(model.config.hidden_size, PATCH_LABEL_SIZES)

    def loss_at(step: int) -> Tensor:
        rng = random.Random(f"timesformer {options.seed} {step}")
        alone = 0.6 * max(0.0, 1 - 3 * step / options.steps)  # easy ones first
        pixels, labels, patch_labels = draw_batch(rng, options.batch, alone=alone)
        pixels = as_from_files(pixels, torch.Generator().manual_seed(step))
        with half_where_it_pays():
            states = [state.float() for state in model(pixels, output_hidden_states=True).hidden_states]
        levels = zip(WEIGHTS, states[-len(WEIGHTS) :], strict=True)
        losses = [weight * heads.loss(model.layernorm(state[:, 0]), labels) for weight, state in levels]
        for level in PATCH_LEVELS:
            patches = model.layernorm(states[level][:, 1:]).flatten(0, 1)
            losses.append(patch_heads.loss(patches, patch_labels.flatten(0, 1)))
        return torch.stack(losses).sum()

    def report() -> str:
        words = []
        for name, held_out in (("seen", False), ("held out", True)):
            pixels, labels, _ = draw_batch(random.Random("timesformer check"), 256, held_out=held_out)
            shares = shares_right(heads, model(pixels).last_hidden_state[:, 0], labels)
            words.append(f"\n  {name}: " + ", ".join(f"{label} {share:.2f}" for label, share in shares.items()))
        return "".join(words)

    pretrain(
        nn.ModuleDict({"timesformer": model, "heads": heads, "patch_heads": patch_heads}), loss_at,
        steps=options.steps, peak_rate=options.rate, state_file=options.state, report=report, report_every=500,
    )  # fmt: skip
    save(model, options.out)


if __name__ == "__main__":
    main()
