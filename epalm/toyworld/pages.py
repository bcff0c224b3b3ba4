"""Pages of text that the toy world's language model is pretrained on, and their layout as tensors.

A page is one passage followed by several segments: a question with its answer, or a retelling. It is read in one of
four manners:

- `open`: each segment sees the whole passage, as in any reading comprehension;
- `summary`: each segment sees of the passage only its closing token, so that the model learns to gather what it has
  read in one token and to answer out of it (as in gist tokens, Mu et al. 2023);
- `notes`: as `summary`, of a passage in terse notes;
- `closed`: the segment sees nothing, and the model learns what is likely.

The layout also says where a reader would look: at the part of the passage that answers the question, or that bears out
what it supposes, and at the first token if there is none. Of a passage that is summed up, head h of the closing token
looks at group h, and head h of a question about group h at the closing token.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from epalm.toyworld import stories
from epalm.toyworld.pictures import language as pictures_language
from epalm.toyworld.pictures.language import (
    Asked,
    Statement,
    ask,
    ask_tersely,
    state_facts,
    state_notes,
    suppose,
    write_caption,
)
from epalm.toyworld.pictures.world import draw_scene
from epalm.toyworld.stories import tell_story

BOS = EOS = 2
PAD = 1
MAX_POSITIONS = 256
SUMMED_UP = ("summary", "notes")
SEGMENTS = 9  # of a page
GUIDED_HEADS = 2  # as many as a scene has groups
_NOTHING = -1  # what a token speaks of that speaks of no group
_NAMES = pictures_language.NAMES | stories.NAMES
_WEIGHTS = {"answer": 1.0, "caption": 0.5, "notes": 0.5}


# --- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A lead and the target that is to follow it."""

    lead: str
    target: str
    kind: str
    about: tuple[int, ...] = ()
    holds: bool | None = None
    evidence: tuple[str, ...] = ()  # these three as of `Asked`


@dataclass(frozen=True)
class Page:
    """A passage, the same as terse notes, and what follows it."""

    passage: list[Statement]
    notes: list[Statement]
    segments: list[Segment]


def write_page(rng: random.Random, *, groups: int | None = None, terse: float = 0.0, supposing: float = 0.0) -> Page:
    """A page about a scene, or now and then a story.

    Args:
        rng: decides.
        groups: in the scene; by lot where it is left out.
        terse: share of the questions that are of two or three words.
        supposing: share of the others that are drawn from yes-or-no questions alone.
    """
    if rng.random() < 0.12:
        passage, asked = tell_story(rng, SEGMENTS)
        return Page(passage, passage, [_as_segment(one) for one in asked])
    scene = draw_scene(rng, groups=groups)
    notes = state_notes(scene)
    retellings = [Segment("", write_caption(scene, rng), "caption")]
    if rng.random() < 0.5:
        retellings.append(Segment("notes:", join(notes), "notes"))
    asked = []
    for _ in range(SEGMENTS - len(retellings)):
        manner = ask_tersely if rng.random() < terse else suppose if supposing and rng.random() < supposing else ask
        asked.append(manner(scene, rng))
    return Page(state_facts(scene, rng), notes, [*map(_as_segment, asked), *retellings])


def join(statements: list[Statement]) -> str:
    """Statements as one text."""
    return " ".join(statement.text for statement in statements)


def _as_segment(asked: Asked) -> Segment:
    return Segment(f"{asked.question}?", asked.answer, "answer", asked.about, asked.holds, asked.evidence)


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, lower case: any text has ids, and the world's words are one token each; `</s>` goes in front."""
    rng = random.Random(f"tokenizer {seed}")
    lines = []
    for _ in range(4000):
        page = write_page(rng)
        lines.append(join(page.passage))
        lines += [f"{segment.lead} {segment.target}" for segment in page.segments]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=768, min_frequency=20, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        padding_side="left", model_max_length=MAX_POSITIONS,
    )  # fmt: skip


# --- tensors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PageBatch:
    """Tensors of B pages padded to T tokens."""

    input_ids: Tensor  # (B, T)
    position_ids: Tensor  # (B, T)
    visible: Tensor  # (B, 1, T, T) bool: row sees column
    weights: Tensor  # (B, T) of each token as a target
    summary: Tensor  # (B, T) bool: the closing token of a page read by its summary
    answers: Tensor  # (B, T) bool: tokens of answers
    named: Tensor  # (B, 1, T, T) bool: earlier tokens that name what this token's statement or segment speaks of
    described: Tensor  # (B, 1, T, T) bool: earlier tokens there that say what it is like
    gathered: Tensor  # (B, H, T, T) bool: from the closing token that sums up, the tokens of group h
    sought: Tensor  # (B, H, T, T) bool: from the last token of a question, where head h finds what answers it
    checked: Tensor  # (B, H, T, T) bool: from there, where head h finds that what the question supposes is so


def lay_out(pages: list[Page], manners: list[str], tokenizer: PreTrainedTokenizerFast) -> PageBatch:
    """Pages as one batch, each read in its manner: `open`, `summary`, `notes` or `closed`."""
    texts = []
    for page, manner in zip(pages, manners, strict=True):
        texts += [statement.text for statement in (page.notes if manner == "notes" else page.passage)]
        texts += [part for segment in page.segments for part in (segment.lead, segment.target)]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    words = [token.strip("Ġ") for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    names, qualities = (
        torch.tensor([word in kind for word in words]) for kind in (_NAMES, pictures_language.QUALITIES)
    )
    rows = [_line_up(page, manner, encoded) for page, manner in zip(pages, manners, strict=True)]
    count, length = len(rows), max(len(row.ids) for row in rows)
    batch = PageBatch(
        input_ids=torch.full((count, length), PAD),
        position_ids=torch.zeros(count, length, dtype=torch.long),
        visible=torch.eye(length, dtype=torch.bool).repeat(count, 1, 1, 1),
        weights=torch.zeros(count, length),
        summary=torch.zeros(count, length, dtype=torch.bool),
        answers=torch.zeros(count, length, dtype=torch.bool),
        named=torch.zeros(count, 1, length, length, dtype=torch.bool),
        described=torch.zeros(count, 1, length, length, dtype=torch.bool),
        gathered=torch.zeros(count, GUIDED_HEADS, length, length, dtype=torch.bool),
        sought=torch.zeros(count, GUIDED_HEADS, length, length, dtype=torch.bool),
        checked=torch.zeros(count, GUIDED_HEADS, length, length, dtype=torch.bool),
    )
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    for at, row in enumerate(rows):
        size, closing = len(row.ids), row.closing
        batch.input_ids[at, :size] = torch.tensor(row.ids)
        batch.position_ids[at, :size] = torch.tensor(row.positions)
        batch.weights[at, :size] = torch.tensor(row.weights)
        batch.answers[at, :size] = torch.tensor(row.answers)
        owners, about = torch.tensor(row.owners), torch.tensor(row.about)
        own = owners[:, None] == owners[None, :]
        seen = own.clone()
        if row.manner == "open":
            seen |= owners[None, :] == 0
        elif row.manner in SUMMED_UP:
            seen[:, closing] = True
            batch.summary[at, closing] = True
        batch.visible[at, 0, :size, :size] |= seen & causal[:size, :size]
        kin = (about[:, None] == about[None, :]) & (about != _NOTHING) & own | own & (owners > 0)
        kin &= causal[:size, :size].tril(-1)
        batch.named[at, 0, :size, :size] = kin & names[batch.input_ids[at, :size]]
        batch.described[at, 0, :size, :size] = kin & qualities[batch.input_ids[at, :size]]
        for head in range(GUIDED_HEADS):
            if row.manner in SUMMED_UP:
                batch.gathered[at, head, closing, :size] = about == head
            for first, last, segment in row.asked:
                answering = torch.isin(about, torch.tensor(segment.about, dtype=torch.long))
                evident = answering & torch.tensor([words[token] in segment.evidence for token in row.ids])
                if row.manner != "open":
                    answering = evident = torch.arange(size) == (closing if head in segment.about else first)
                nothing = torch.arange(size) == (0 if row.manner == "open" else first)
                if segment.about:
                    batch.sought[at, head, last, :size] = answering
                if segment.holds is not None:
                    batch.checked[at, head, last, :size] = evident if segment.holds else nothing
    return batch


@dataclass(frozen=True)
class _Row:
    """One page as lists over its tokens."""

    manner: str
    ids: list[int]
    positions: list[int]
    owners: list[int]  # 0 the passage, then the number of the segment
    about: list[int]  # number of the group that a token of the passage speaks of
    weights: list[float]
    answers: list[bool]
    closing: int  # last token of the passage
    asked: list[tuple[int, int, Segment]]  # first and last token of a question's lead, and the whole of it


def _line_up(page: Page, manner: str, encoded: Iterator[list[int]]) -> _Row:
    ids, about = [BOS], [_NOTHING]
    for statement in page.notes if manner == "notes" else page.passage:
        words = next(encoded)
        ids += words
        about += [_NOTHING if statement.about is None else statement.about] * len(words)
    if manner in SUMMED_UP:
        ids.append(EOS)
    closing = len(ids) - 1
    row = _Row(
        manner=manner, ids=ids, positions=list(range(len(ids))), owners=[0] * len(ids), about=about,
        weights=[0.0] * len(ids), answers=[False] * len(ids), closing=closing, asked=[],
    )  # fmt: skip
    opening = [] if manner == "open" else [BOS]
    start = closing + 1 if manner == "open" else 0
    for number, segment in enumerate(page.segments, start=1):
        lead, target = [*opening, *next(encoded)], [*next(encoded), EOS]
        length = len(lead) + len(target)
        row.ids.extend(lead + target)
        row.positions.extend(range(start, start + length))
        row.owners.extend([number] * length)
        row.weights.extend([0.0] * len(lead) + [_WEIGHTS[segment.kind]] * len(target))
        row.answers.extend([False] * len(lead) + [segment.kind == "answer"] * len(target))
        if segment.kind == "answer" and manner != "closed":
            row.asked.append((len(row.ids) - length, len(row.ids) - len(target) - 1, segment))
    row.about.extend([_NOTHING] * (len(row.ids) - len(row.about)))
    return row
