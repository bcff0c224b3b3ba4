"""Text condensed to one vector, and read by the language model from a slot of its own.

A sentence can be condensed by a text encoder to one vector, and a language model can learn to read it (as in the
in-context autoencoder of Ge et al. 2024). Here the text is the terse notes on something, the encoder a bag of words by
their places, and the vector enters every decoder layer in front of the text, as perception does (METHOD.md section 4).
The encoder is thrown away after pretraining. It is text alone; and it makes the toy language model a better reader of
single vectors than a language model off the shelf.

Shapes: B rows, T tokens of which the first S are slots, D width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epalm.toyworld.pages import BOS, CAPTION_WEIGHT, EOS, GUIDED_HEADS, Batch, Vocabulary
from epalm.toyworld.pictures.world import SHAPES
from epalm.toyworld.wording import GROUND, Asked, Statement, plural
from epalm.toyworld.worlds import WORLDS

SLOTS = 2  # what is heard has the second where something is seen as well
_KINDS = {"image": 30, "video": 24, "audio": 22, "image+audio": 14, "video+audio": 10}  # relative frequencies
_CAPTIONS = 0.25  # share of the rows of a world that has captions
_BLIND = 0.04  # share of the rows whose slots are hidden
_SINGULAR = {plural(shape, 2): shape for shape in SHAPES}
_BETWEEN = frozenset((",", "and", "then"))  # words between what a caption says of one group and of the next


@dataclass(frozen=True)
class Example:
    """Notes by modality, and one question about them or a caption."""

    kind: str
    notes: dict[str, list[Statement]]
    asked: Asked | None
    caption: str = ""
    blind: bool = False


def draw_example(rng: random.Random, supposing: float) -> Example:
    """Something at random, with a question about it or a caption.

    Args:
        rng: decides.
        supposing: share of the questions that are drawn from yes-or-no questions alone.
    """
    kind = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
    world = WORLDS[kind]
    thing = world.draw(rng)
    notes, blind = world.notes(thing), rng.random() < _BLIND
    if world.caption and rng.random() < _CAPTIONS:
        return Example(kind, notes, None, world.caption(thing, rng), blind)
    asked = (world.suppose if rng.random() < supposing else world.ask)(thing, rng)
    return Example(kind, notes, asked, blind=blind)


class Condenser(nn.Module):
    """Notes -> one vector a modality: a bag of words by their places, each with an embedding of its own.

    Args:
        width: D.
        words: most words by place that there can be.
    """

    def __init__(self, width: int, words: int = 1024) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(words, width, mode="sum")
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.numbers = {place: number for number, place in enumerate(_places())}
        assert len(self.numbers) <= words

    def forward(self, notes: Sequence[tuple[str, list[Statement]]]) -> Tensor:
        """Modality and notes, N of them -> (N, D)."""
        bags = [[self.numbers[place] for place in _words(modality, each)] for modality, each in notes]
        starts = torch.tensor([0, *(len(bag) for bag in bags[:-1])]).cumsum(0)
        vectors: Tensor = self.embedding(torch.tensor([word for bag in bags for word in bag]), starts)
        return vectors


def _words(modality: str, notes: list[Statement]) -> list[tuple[str, int, int, str]]:
    """Every word with its place: modality, number of the statement (the ground's is its own), number of the word."""
    words = []
    for number, note in enumerate(notes):
        rank = number if note is not notes[-1] else GROUND
        words += [(modality, rank, at, word) for at, word in enumerate(note.text.strip(".,").split())]
    return words


def _places() -> list[tuple[str, int, int, str]]:
    """Every word at every place that occurs, in an order that is always the same."""
    rng = random.Random("places")
    places = {
        place
        for kind in ("image", "video", "audio")
        for _ in range(4000)
        for modality, notes in WORLDS[kind].notes(WORLDS[kind].draw(rng)).items()
        for place in _words(modality, notes)
    }
    return sorted(places)


def condense(examples: Sequence[Example], condenser: Condenser) -> Tensor:
    """What enters the slots, (B, S, D): what is seen, or all that is heard, then what is heard beside it."""
    flat = [(modality, notes) for example in examples for modality, notes in example.notes.items()]
    vectors = iter(condenser(flat))
    slots = [[next(vectors) for _ in example.notes] for example in examples]
    return torch.stack([torch.stack(row if len(row) == SLOTS else [*row, torch.zeros_like(row[0])]) for row in slots])


class Slots:
    """Puts vectors into the first S positions wherever a decoder layer is entered, with noise while in training.

    Noise has two parts: a random direction, anew for every layer, and a share of another row's vector. What is read so
    may be inexact and still says what is likeliest.
    """

    def __init__(self, layers: Sequence[nn.Module], noise: float, mixture: float) -> None:
        self.noise, self.mixture = noise, mixture
        self.vectors: Tensor | None = None
        for layer in layers:
            layer.register_forward_pre_hook(self._fill, with_kwargs=True)

    def mix(self, vectors: Tensor) -> Tensor:
        """Rows of (B, S, D) with a share of other rows."""
        share = torch.rand(len(vectors), 1, 1) * self.mixture
        return vectors + share * vectors[torch.randperm(len(vectors))]

    def _fill(
        self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[Tensor, ...], dict[str, object]] | None:
        if self.vectors is None:
            return None
        hidden, vectors = args[0], self.vectors
        if layer.training:
            size = vectors.detach().pow(2).mean(-1, keepdim=True).sqrt() * self.noise
            vectors = vectors + torch.randn_like(vectors) * size * torch.rand_like(size)
        return (torch.cat([vectors.to(hidden), hidden[:, SLOTS:]], dim=1), *args[1:]), kwargs


def lay_out_examples(examples: Sequence[Example], vocabulary: Vocabulary) -> Batch:
    """One row each: slots, `</s>`, question and answer or the caption."""
    questions = [f"{example.asked.question}?" if example.asked else "" for example in examples]
    texts = [text for pair in zip(questions, map(_target, examples), strict=True) for text in pair]
    encoded = vocabulary.encode(texts)
    leads, targets = encoded[::2], [[*ids, EOS] for ids in encoded[1::2]]
    length = SLOTS + 1 + max(len(lead) + len(target) for lead, target in zip(leads, targets, strict=True))
    batch = Batch.empty(len(examples), length)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    causal[:SLOTS] = torch.eye(length, dtype=torch.bool)[:SLOTS]
    batch.visible[:] = causal
    batch.position_ids[:, SLOTS:] = torch.arange(length - SLOTS)
    for at, (example, lead, target) in enumerate(zip(examples, leads, targets, strict=True)):
        start, end = SLOTS + 1 + len(lead), SLOTS + 1 + len(lead) + len(target)
        batch.input_ids[at, SLOTS:end] = torch.tensor([BOS, *lead, *target])
        batch.weights[at, start:end] = 1.0 if example.asked else CAPTION_WEIGHT
        batch.answers[at, start:end] = example.asked is not None
        batch.visible[at, 0, SLOTS:, (0 if example.blind else len(example.notes)) : SLOTS] = False
        if not example.blind:
            _guide(example, batch, at, start, end, vocabulary)
    return batch


def _target(example: Example) -> str:
    return example.asked.answer if example.asked else example.caption


def _guide(example: Example, batch: Batch, at: int, start: int, end: int, vocabulary: Vocabulary) -> None:
    """Where a reader would look: at the slot, by the head of the group that is meant, else at `</s>`."""
    words = [vocabulary.words[token] for token in batch.input_ids[at, :end].tolist()]
    groups = [frozenset(note.text.strip(",").split()) for note in next(iter(example.notes.values()))[:-1]]

    def look(layout: Tensor, row: int, heads: set[int]) -> None:
        for head in range(GUIDED_HEADS):
            layout[at, head, row, 0 if head in heads else SLOTS] = True

    if example.asked is None:
        between = [place for place in range(start, end) if words[place] in _BETWEEN]
        turn = between[0] if between and len(groups) > 1 else end
        for row in range(start - 1, end - 1):
            look(batch.sought, row, {0 if row < turn else 1})
        return
    names = [place for place in range(SLOTS + 1, start) if vocabulary.names[batch.input_ids[at, place]]]
    for row in range(SLOTS + 2, start):
        batch.named[at, 0, row, [place for place in names if place < row]] = True
    for row in names:
        word = _SINGULAR.get(words[row], words[row])
        mentioned = {number for number, group in enumerate(groups) if word in group}
        if mentioned:
            look(batch.sought, row, mentioned)
    if example.asked.about:
        batch.sought[at, :, start - 1] = False
        for row in range(start - 1, end - 1):
            look(batch.sought, row, set(example.asked.about))
    if example.asked.holds is not None:
        look(batch.checked, start - 1, set(example.asked.about) if example.asked.holds else set())
