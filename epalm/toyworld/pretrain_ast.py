"""Pretrains the toy world's sound encoder: an AST on sounds alone, with labels, as AudioSet's are.

    python -m epalm.toyworld.pretrain_ast

No text is involved. Labels say, for each rank in time, which voice calls (shape), whether its pitch rises or falls
(motion), how loud and how often it calls, and what the bed is. Linear heads read them off the [CLS] token of the last
three levels, the last one weighing most. One more reads off each stretch of time which call sounds there. The heads are
dropped afterwards.
"""

from __future__ import annotations

import random
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel
from transformers.audio_utils import mel_filter_bank, window_function

from epalm.toyworld.pictures.world import COUNTS, SHAPES
from epalm.toyworld.pretrain import half_where_it_pays, options_parser, pretrain
from epalm.toyworld.pretrain_vit import ABSENT, AttributeHeads
from epalm.toyworld.sounds.synthesize import RATE, SAMPLES, Call, synthesize_with_calls
from epalm.toyworld.sounds.world import BEDS, LOUDNESS, MOTIONS, Event, Sound, draw_sound

HOME = Path(__file__).parent / "backbones" / "ast"
MEAN, STD = -10.39, 5.46  # of the filter bank over the toy world's sounds, as measured
FRAME, HOP, FFT, LIFT = 400, 160, 512, 0.97  # samples, and how much of the sample before is taken off: as in kaldi
BINS = 64  # mel filters: among the frequencies of the voices 128 would tell hardly more, in twice the patches
FRAMES = 1 + (SAMPLES - FRAME) // HOP
PATCH = 16  # frames, and mel filters
COLUMNS = FRAMES // PATCH
_ATTRIBUTES: dict[str, tuple[object, ...]] = {
    "shape": SHAPES,
    "motion": MOTIONS,
    "loudness": LOUDNESS,
    "count": COUNTS,
}
RANKS = (0, 1)
HEADS = [*(attribute for _ in RANKS for attribute in _ATTRIBUTES), "bed"]
"""What each head tells, in the order of `labels_of`."""
LABEL_SIZES = [1 + len(BEDS if name == "bed" else _ATTRIBUTES[name]) for name in HEADS]
COLUMN_LABEL_SIZES = [1 + len(SHAPES), 1 + len(MOTIONS), 1 + len(LOUDNESS), 1 + len(RANKS), 1 + len(COUNTS)]
COLUMN_LEVEL = 4  # blocks after which the columns are asked; those behind it are left to gather
WEIGHTS = (0.3, 0.6, 1.0)  # of the last levels


def labels_of(sound: Sound) -> list[int]:
    """Class of every head: for each rank in time the attributes of the event that has it, then the bed."""
    labels = []
    for rank in RANKS:
        event = sound.events[rank] if rank < len(sound.events) else None
        labels += [ABSENT if event is None else _class(event, attribute) for attribute in _ATTRIBUTES]
    return [*labels, 1 + BEDS.index(sound.bed)]


def _class(event: Event, attribute: str) -> int:
    return 1 + _ATTRIBUTES[attribute].index(getattr(event, attribute))


def column_labels_of(sound: Sound, calls: list[Call]) -> np.ndarray:
    """For each column of patches the call that sounds in most of it: (columns, heads).

    Shape, motion, loudness and rank of its event, and which of the event's calls it is.
    """
    labels = np.full((COLUMNS, len(COLUMN_LABEL_SIZES)), ABSENT)
    longest = np.full(COLUMNS, PATCH * HOP / 4)  # samples: less than a quarter of a column is not asked for
    starts = np.arange(COLUMNS) * PATCH * HOP
    for number, call in enumerate(calls):
        event = sound.events[call.event]
        ordinal = 1 + number - min(n for n, other in enumerate(calls) if other.event == call.event)
        shared = np.minimum(call.stop, starts + PATCH * HOP) - np.maximum(call.start, starts)
        attributes = [_class(event, attribute) for attribute in ("shape", "motion", "loudness")]
        labels[shared > longest] = [*attributes, 1 + call.event, ordinal]
        longest = np.maximum(longest, shared)
    return labels


def configuration() -> ASTConfig:
    """Of the encoder that is pretrained here."""
    return ASTConfig(
        hidden_size=192, num_hidden_layers=6, num_attention_heads=6, intermediate_size=576, patch_size=PATCH,
        frequency_stride=PATCH, time_stride=PATCH, max_length=FRAMES, num_mel_bins=BINS, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip


def feature_extractor() -> ASTFeatureExtractor:
    """Of the same encoder: its window is a whole sound."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        return ASTFeatureExtractor(
            sampling_rate=RATE, num_mel_bins=BINS, max_length=FRAMES, mean=MEAN, std=STD, return_attention_mask=False
        )


@cache
def _filters() -> tuple[Tensor, Tensor]:
    """The extractor's analysis window (FRAME,) and mel filters (frequencies, BINS)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        filters = mel_filter_bank(
            FFT // 2 + 1, BINS, 20, RATE // 2, RATE, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
        )
    window = window_function(FRAME, "hann", periodic=False)
    return torch.from_numpy(window).float(), torch.from_numpy(filters).float()


def log_mels(sound: Tensor) -> Tensor:
    """What the extractor gives for a sound (N,), with all frames at once and so many times as fast: (T, BINS)."""
    window, filters = _filters()
    # The extractor takes off each frame's mean and then lifts its highs. Here the highs are lifted before there are
    # frames; only a frame's first sample tells the difference, and there the window is zero.
    lifted = torch.cat((sound[:1], sound[1:] - LIFT * sound[:-1]))
    means = sound.unfold(0, FRAME, HOP).mean(-1, keepdim=True)  # (T, 1)
    frames = (lifted.unfold(0, FRAME, HOP) - (1 - LIFT) * means) * window  # (T, FRAME)
    spectrum = torch.fft.rfft(nn.functional.pad(frames, (0, FFT - FRAME)))  # (T, frequencies)
    mels = (spectrum.real.square() + spectrum.imag.square()) @ filters
    return (mels.clamp(min=torch.finfo(torch.float32).eps).log() - MEAN) / (2 * STD)


def draw_batch(rng: random.Random, size: int, *, held_out: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Filter banks (B, FRAMES, BINS), labels (B, heads) and column labels (B, columns, heads) of fresh sounds."""
    sounds = [draw_sound(rng, held_out=held_out) for _ in range(size)]
    drawn = [synthesize_with_calls(sound, rng) for sound in sounds]
    columns = np.stack([column_labels_of(sound, calls) for sound, (_, calls) in zip(sounds, drawn, strict=True)])
    values = torch.stack([log_mels(torch.from_numpy(samples)) for samples, _ in drawn])
    return values, torch.tensor([labels_of(sound) for sound in sounds]), torch.from_numpy(columns)


def _shares_right(heads: AttributeHeads, states: Tensor, labels: Tensor) -> str:
    """Share of right answers per attribute, both ranks together, where there is something to tell."""
    guesses = torch.stack([part.argmax(-1) for part in heads(states).split(heads.sizes, dim=-1)], dim=1)
    words = []
    for name in dict.fromkeys(HEADS):
        mine = torch.tensor([head == name for head in HEADS])
        right = (guesses == labels)[:, mine][labels[:, mine] != ABSENT]
        words.append(f"{name} {right.float().mean():.3f}")
    return " ".join(words)


def main() -> None:
    """Pretrain, then write `backbones/ast` in half precision with its extractor's settings."""
    options = options_parser(__doc__, HOME, steps=5_000, batch=32, rate=1.2e-3).parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    ast = ASTModel(configuration())
    if options.start_from:
        kept = ASTModel.from_pretrained(options.start_from, dtype=torch.float32)
        ast.load_state_dict(kept.state_dict())
    heads = AttributeHeads(ast.config.hidden_size, LABEL_SIZES)
    column_heads = AttributeHeads(ast.config.hidden_size, COLUMN_LABEL_SIZES)
    model = nn.ModuleDict({"ast": ast, "heads": heads, "column_heads": column_heads})

    def columns_of(states: tuple[Tensor, ...]) -> Tensor:
        """What the patches of each stretch of time hold: (B * columns, E)."""
        patches = ast.layernorm(states[COLUMN_LEVEL][:, 2:])  # behind [CLS] and the distillation token
        return patches.unflatten(1, (-1, COLUMNS)).mean(1).flatten(0, 1)  # over frequencies

    def loss_at(step: int) -> Tensor:
        values, labels, column_labels = draw_batch(random.Random(f"ast {options.seed} {step}"), options.batch)
        with half_where_it_pays():
            states = tuple(state.float() for state in ast(values, output_hidden_states=True).hidden_states)
        levels = zip(WEIGHTS, states[-len(WEIGHTS) :], strict=True)
        whole = sum(weight * heads.loss(ast.layernorm(state[:, 0]), labels) for weight, state in levels)
        return whole + column_heads.loss(columns_of(states), column_labels.flatten(0, 1))

    def report() -> str:
        words = []
        for name, held_out in (("seen", False), ("held out", True)):
            values, labels, column_labels = draw_batch(random.Random("ast check"), 256, held_out=held_out)
            heard = ast(values, output_hidden_states=True)
            in_time = column_heads.right(columns_of(heard.hidden_states), column_labels.flatten(0, 1)).float().mean()
            shares = _shares_right(heads, heard.last_hidden_state[:, 0], labels)
            words.append(f"{name}: {shares} (in time {in_time:.3f})")
        return "  ".join(words)

    pretrain(
        model, loss_at, steps=options.steps, peak_rate=options.rate, state_file=options.state, report=report,
        report_every=500,
    )  # fmt: skip
    ast.half().save_pretrained(options.out)
    feature_extractor().save_pretrained(options.out)


if __name__ == "__main__":
    main()
