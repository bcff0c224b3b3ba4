"""Pages of text that the toy world's language models are pretrained on, and their layout as tensors.

A page is one passage followed by several segments: a question with its answer, or a retelling as a caption. Each
segment sees the passage and itself, no other segment: reading comprehension, many questions a passage.

The layout also says where a reader would look: within a statement and within a question at the words that name what it
speaks of; from such a name and from the end of a question at the statement that is meant; and, where a question
supposes something, at the word that bears it out, or at the first token if there is none.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from epalm.toyworld import stories
from epalm.toyworld.pictures.language import QUALITIES, ask_tersely
from epalm.toyworld.pictures.world import draw_scene
from epalm.toyworld.stories import tell_story
from epalm.toyworld.wording import Asked, Statement
from epalm.toyworld.worlds import NAMES as WORLD_NAMES
from epalm.toyworld.worlds import WORLDS

BOS = EOS = 2
PAD = 1
MAX_POSITIONS = 256
SEGMENTS = 8  # of a page
GUIDED_HEADS = 2  # as many as a scene has groups
_KINDS = {
    "image": 38,
    "video": 18,
    "audio": 18,
    "image+audio": 8,
    "video+audio": 6,
    "story": 12,
}  # frequencies
_NAMES = WORLD_NAMES | stories.NAMES
CAPTION_WEIGHT = 0.4  # of each of its tokens, one of an answer counting 1


# --- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """A passage, and what is asked about it; the caption stands last, if there is one."""

    passage: list[Statement]
    asked: list[Asked]
    caption: str | None = None


def write_page(rng: random.Random, *, groups: int | None = None, terse: float = 0.0, supposing: float = 0.0) -> Page:
    """A page about something that can be perceived, or now and then a story.

    Args:
        rng: decides.
        groups: in the scene, where it is one; drawn at random where it is left out.
        terse: share of the questions about scenes that are of two or three words.
        supposing: share of the others that are drawn from yes-or-no questions alone.
    """
    kind = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
    if kind == "story":
        return Page(*tell_story(rng, SEGMENTS))
    world = WORLDS[kind]
    thing = draw_scene(rng, groups=groups) if kind == "image" else world.draw(rng)
    asked = []
    for _ in range(SEGMENTS - 1):
        manner = world.suppose if rng.random() < supposing else world.ask
        asked.append((ask_tersely if kind == "image" and rng.random() < terse else manner)(thing, rng))
    return Page(world.facts(thing, rng), asked, world.caption(thing, rng) if world.caption else None)


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, lower case: any text has ids, and the world's words are one token each; `</s>` goes in front."""
    rng = random.Random(f"tokenizer {seed}")
    lines = []
    for _ in range(6000):
        page = write_page(rng)
        lines.append(" ".join(statement.text for statement in page.passage))
        lines += [f"{asked.question}? {asked.answer}" for asked in page.asked]
        lines.append(page.caption or "")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1024, min_frequency=12, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        padding_side="left", model_max_length=MAX_POSITIONS,
    )  # fmt: skip


class Vocabulary:
    """A tokenizer with its tokens as words, and which of them name something or say what it is like."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.words = [token.strip("Ġ") for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
        self.names = torch.tensor([word in _NAMES for word in self.words])
        self.qualities = torch.tensor([word in QUALITIES for word in self.words])

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without anything in front."""
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids


# --- tensors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Tensors of B rows padded to T tokens."""

    input_ids: Tensor  # (B, T)
    position_ids: Tensor  # (B, T)
    visible: Tensor  # (B, 1, T, T) bool: row sees column
    weights: Tensor  # (B, T) of each token as a target
    answers: Tensor  # (B, T) bool: tokens of answers, the end token included
    named: Tensor  # (B, 1, T, T) bool: earlier tokens that name what this token's statement or segment speaks of
    described: Tensor  # (B, 1, T, T) bool: earlier tokens there that say what it is like
    sought: Tensor  # (B, H, T, T) bool: where head h finds what is meant
    checked: Tensor  # (B, H, T, T) bool: where head h finds that what the question supposes is so

    @classmethod
    def empty(cls, rows: int, length: int) -> Batch:
        """Padding alone; every token sees itself."""
        return cls(
            input_ids=torch.full((rows, length), PAD),
            position_ids=torch.zeros(rows, length, dtype=torch.long),
            visible=torch.eye(length, dtype=torch.bool).repeat(rows, 1, 1, 1),
            weights=torch.zeros(rows, length),
            answers=torch.zeros(rows, length, dtype=torch.bool),
            named=torch.zeros(rows, 1, length, length, dtype=torch.bool),
            described=torch.zeros(rows, 1, length, length, dtype=torch.bool),
            sought=torch.zeros(rows, GUIDED_HEADS, length, length, dtype=torch.bool),
            checked=torch.zeros(rows, GUIDED_HEADS, length, length, dtype=torch.bool),
        )


_NOTHING = -1  # what a token speaks of that speaks of no group


def lay_out(pages: list[Page], vocabulary: Vocabulary) -> Batch:
    """Pages as one batch of rows; every segment of a page sees its passage and itself."""
    texts = []
    for page in pages:
        texts += [statement.text for statement in page.passage]
        texts += [text for asked in page.asked for text in (f"{asked.question}?", asked.answer)]
        texts.append(page.caption or "")
    encoded = iter(vocabulary.encode(texts))
    rows = [
        _line_up(page, [next(encoded) for _ in range(len(page.passage) + 2 * len(page.asked) + 1)]) for page in pages
    ]
    batch = Batch.empty(len(rows), max(len(row.ids) for row in rows))
    for at, row in enumerate(rows):
        _place(row, batch, at, vocabulary)
    return batch


@dataclass(frozen=True)
class _Row:
    """One page as lists over its tokens."""

    ids: list[int]
    positions: list[int]
    owners: list[int]  # 0 the passage, then the number of the segment
    about: list[int]  # number of the group that a token of the passage speaks of
    weights: list[float]
    answers: list[bool]
    asked: list[tuple[int, int, Asked]]  # first and last token of each question


def _line_up(page: Page, encoded: list[list[int]]) -> _Row:
    pieces = iter(encoded)
    ids, about = [BOS], [_NOTHING]
    for statement in page.passage:
        words = next(pieces)
        ids += words
        about += [_NOTHING if statement.about is None else statement.about] * len(words)
    start = len(ids)
    row = _Row(ids, list(range(start)), [0] * start, about, [0.0] * start, [False] * start, [])
    for number, asked in enumerate([*page.asked, *([None] if page.caption else [])], start=1):
        lead = next(pieces) if asked else []
        target = [*next(pieces), EOS]
        length = len(lead) + len(target)
        if asked:
            row.asked.append((len(row.ids), len(row.ids) + len(lead) - 1, asked))
        row.ids.extend(lead + target)
        row.positions.extend(range(start, start + length))
        row.owners.extend([number] * length)
        row.weights.extend([0.0] * len(lead) + [1.0 if asked else CAPTION_WEIGHT] * len(target))
        row.answers.extend([False] * len(lead) + [asked is not None] * len(target))
    row.about.extend([_NOTHING] * (len(row.ids) - start))
    return row


def _place(row: _Row, batch: Batch, at: int, vocabulary: Vocabulary) -> None:
    """Write one row into the batch."""
    size = len(row.ids)
    ids = torch.tensor(row.ids)
    batch.input_ids[at, :size] = ids
    batch.position_ids[at, :size] = torch.tensor(row.positions)
    batch.weights[at, :size] = torch.tensor(row.weights)
    batch.answers[at, :size] = torch.tensor(row.answers)
    owners, about = torch.tensor(row.owners), torch.tensor(row.about)
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    own = owners[:, None] == owners[None, :]
    batch.visible[at, 0, :size, :size] |= (own | (owners[None, :] == 0)) & causal
    kin = own & ((owners > 0) | (about[:, None] == about[None, :]) & (about != _NOTHING)) & causal.tril(-1)
    batch.named[at, 0, :size, :size] = kin & vocabulary.names[ids]
    batch.described[at, 0, :size, :size] = kin & vocabulary.qualities[ids]
    for _, last, asked in row.asked:
        meant = torch.isin(about, torch.tensor(asked.about, dtype=torch.long))
        if asked.about:
            batch.sought[at, :, last, :size] = meant
        if asked.holds is not None:
            borne_out = meant & torch.tensor([vocabulary.words[token] in asked.evidence for token in row.ids])
            batch.checked[at, :, last, :size] = borne_out if asked.holds else torch.arange(size) == 0
