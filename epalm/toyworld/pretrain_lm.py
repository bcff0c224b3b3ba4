"""Pretrains the toy world's language model: a small OPT on text alone.

    python -m epalm.toyworld.pretrain_lm

No picture is involved. The text states facts in several sentences and then asks about them, or retells them as a
caption. A page is one passage followed by several segments (a question with its answer, or a retelling), and is read in
one of four ways, by lot:

- `open`: each segment sees the whole passage, as in any reading comprehension;
- `summary`: each segment sees of the passage only its closing token, so that the model learns to gather what it has
  read in one token and to answer out of it (as in gist tokens, Mu et al. 2023); noise on that token makes it robust;
- `notes`: as `summary`, of a passage in terse notes;
- `closed`: the segment sees nothing, and the model learns what is likely.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from epalm.toyworld.language import ask, write_caption, write_facts, write_notes
from epalm.toyworld.pretrain import options_parser, pretrain
from epalm.toyworld.stories import tell_story
from epalm.toyworld.world import draw_scene

HOME = Path(__file__).parent / "backbones" / "lm"
BOS = EOS = 2
PAD = 1
MAX_POSITIONS = 256
MANNERS = {"open": 8, "summary": 3, "notes": 8, "closed": 1}  # weights of the lot
SUMMED_UP = ("summary", "notes")
SEGMENTS = 9  # of a page, two of them retellings where the page is a scene
_WEIGHTS = {"passage": 0.0, "question": 0.0, "answer": 1.0, "caption": 0.5, "notes": 0.5}


# --- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """A passage and what follows it: (lead, target, kind of target) each."""

    passage: str
    notes: str
    segments: list[tuple[str, str, str]]


def write_page(rng: random.Random, *, groups: int | None = None) -> Page:
    """A page about a scene, or now and then a story."""
    if rng.random() < 0.12:
        passage, asked = tell_story(rng, SEGMENTS)
        return Page(passage, passage, [(f"{one.question}?", one.answer, "answer") for one in asked])
    scene = draw_scene(rng, groups=groups)
    segments = [(f"{one.question}?", one.answer, "answer") for one in (ask(scene, rng) for _ in range(SEGMENTS - 2))]
    notes = write_notes(scene)
    retellings = [("", write_caption(scene, rng), "caption"), ("notes:", notes, "notes")]
    return Page(write_facts(scene, rng), notes, [*segments, *retellings])


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, lower case: any text has ids, and the world's words are one token each; `</s>` goes in front."""
    rng = random.Random(f"tokenizer {seed}")
    lines = []
    for _ in range(4000):
        page = write_page(rng)
        lines += [page.passage, *(f"{lead} {target}" for lead, target, _ in page.segments)]
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


# --- pages as tensors -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PageBatch:
    """Tensors of B pages padded to T tokens."""

    input_ids: Tensor  # (B, T)
    position_ids: Tensor  # (B, T)
    visible: Tensor  # (B, 1, T, T) bool: row sees column
    weights: Tensor  # (B, T) of each token as a target
    summary: Tensor  # (B, T) bool: the closing token of a page read by its summary
    answers: Tensor  # (B, T) bool: tokens of answers


def lay_out(pages: list[Page], manners: list[str], tokenizer: PreTrainedTokenizerFast) -> PageBatch:
    """Pages as one batch, each read in its manner: `open`, `summary`, `notes` or `closed`."""
    texts = []
    for page, manner in zip(pages, manners, strict=True):
        texts += [page.notes if manner == "notes" else page.passage]
        texts += [part for lead, target, _ in page.segments for part in (lead, target)]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    rows = []
    for page, manner in zip(pages, manners, strict=True):
        ids = [BOS, *next(encoded), *([EOS] if manner in SUMMED_UP else [])]
        positions = list(range(len(ids)))
        owners = [0] * len(ids)
        weights = [_WEIGHTS["passage"]] * len(ids)
        answers = [False] * len(ids)
        closing = len(ids) - 1
        for number, (_, _, kind) in enumerate(page.segments, start=1):
            lead, target = next(encoded), [*next(encoded), EOS]
            opening = [] if manner == "open" else [BOS]
            segment = [*opening, *lead, *target]
            first = closing + 1 if manner == "open" else 0
            ids += segment
            positions += range(first, first + len(segment))
            owners += [number] * len(segment)
            weights += [0.0] * len(opening) + [_WEIGHTS["question"]] * len(lead) + [_WEIGHTS[kind]] * len(target)
            answers += [False] * (len(segment) - len(target)) + [kind == "answer"] * len(target)
        rows.append((ids, positions, owners, weights, answers, closing, manner))
    length = max(len(row[0]) for row in rows)
    batch = PageBatch(
        input_ids=torch.full((len(rows), length), PAD),
        position_ids=torch.zeros(len(rows), length, dtype=torch.long),
        visible=torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1, 1),
        weights=torch.zeros(len(rows), length),
        summary=torch.zeros(len(rows), length, dtype=torch.bool),
        answers=torch.zeros(len(rows), length, dtype=torch.bool),
    )
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    for at, (ids, positions, owners, weights, answers, closing, manner) in enumerate(rows):
        size = len(ids)
        batch.input_ids[at, :size] = torch.tensor(ids)
        batch.position_ids[at, :size] = torch.tensor(positions)
        batch.weights[at, :size] = torch.tensor(weights)
        batch.answers[at, :size] = torch.tensor(answers)
        owner = torch.tensor(owners)
        seen = owner[:, None] == owner[None, :]
        if manner == "open":
            seen |= owner[None, :] == 0
        elif manner in SUMMED_UP:
            seen[:, closing] = True
            batch.summary[at, closing] = True
        batch.visible[at, 0, :size, :size] |= seen & causal[:size, :size]
    return batch


# --- the model --------------------------------------------------------------------------------------------------------


class NoisySummary:
    """Adds noise to the summary tokens where they enter each decoder layer, so that an inexact summary is read, too."""

    def __init__(self, model: OPTForCausalLM, scale: float) -> None:
        self.scale = scale
        self.where: Tensor | None = None  # (B, T) bool
        for layer in model.model.decoder.layers:
            layer.register_forward_pre_hook(self._disturb, with_kwargs=True)

    def _disturb(
        self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[Tensor, ...], dict[str, object]] | None:
        if self.where is None or not layer.training:
            return None
        hidden = args[0]
        size = hidden.detach().pow(2).mean(-1, keepdim=True).sqrt() * self.scale
        noise = torch.randn_like(hidden) * size * torch.rand_like(size) * self.where[..., None]
        return (hidden + noise, *args[1:]), kwargs


def logits_of(model: OPTForCausalLM, batch: PageBatch) -> Tensor:
    """(B, T, V)"""
    mask = torch.zeros(batch.visible.shape).masked_fill(~batch.visible, torch.finfo(torch.float32).min)
    return model(
        input_ids=batch.input_ids, attention_mask=mask, position_ids=batch.position_ids, use_cache=False
    ).logits


def answers_right(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, manner: str, pages: int = 64) -> float:
    """Share of answers of which every token is the likeliest one, over fresh pages read in that manner."""
    rng = random.Random(f"lm check {manner}")
    right = total = 0
    for _ in range(pages // 16):
        batch = lay_out([write_page(rng) for _ in range(16)], [manner] * 16, tokenizer)
        hit = logits_of(model, batch)[:, :-1].argmax(-1) == batch.input_ids[:, 1:]  # (B, T - 1)
        answer = batch.answers[:, 1:]
        first = answer & ~batch.answers[:, :-1]
        whole = torch.cumsum(first.flatten(), 0)[answer.flatten()]
        misses = torch.zeros(int(first.sum()) + 1).scatter_add(0, whole, (~hit[answer]).float())
        right += int((misses[1:] == 0).sum())
        total += int(first.sum())
    return right / total


@torch.no_grad()
def _start_quietly(model: OPTForCausalLM) -> None:
    """Let words speak first: large word embeddings, and sublayers that add little to them in the beginning.

    Otherwise what tells one word from another of its kind drowns in the residual stream before any layer has learned to
    read it. Positions start as sinusoids, from which looking a few words back is soon learned.
    """
    decoder = model.model.decoder
    nn.init.normal_(decoder.embed_tokens.weight, std=0.5)
    rows, width = decoder.embed_positions.weight.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(rows)[:, None] * rates  # (positions, W / 2)
    decoder.embed_positions.weight.copy_(0.35 * torch.cat([angles.sin(), angles.cos()], dim=1))
    for layer in decoder.layers:
        nn.init.normal_(layer.self_attn.out_proj.weight, std=0.01)
        nn.init.normal_(layer.fc2.weight, std=0.01)


def main() -> None:
    """Pretrain, then write `backbones/lm` in half precision with its tokenizer."""
    parser = options_parser(__doc__, HOME, steps=4500, batch=16, rate=1.5e-3)
    parser.add_argument(
        "--noise", type=float, default=0.5, help="largest noise on the summary token, relative to its size"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer(options.seed)
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=192, num_hidden_layers=6, num_attention_heads=6, ffn_dim=576,
        max_position_embeddings=MAX_POSITIONS, word_embed_proj_dim=192, dropout=0.0, attention_dropout=0.0,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, init_std=0.07,
        tie_word_embeddings=False,
    )  # fmt: skip
    # Untied: tied embeddings of words of one kind fall together before there is a use for telling them apart, and then
    # nothing can be read any more.
    model = OPTForCausalLM(config)
    _start_quietly(model)
    if options.start_from:
        model.load_state_dict(OPTForCausalLM.from_pretrained(options.start_from, dtype=torch.float32).state_dict())
    noise = NoisySummary(model, options.noise)

    def loss_at(step: int) -> Tensor:
        rng = random.Random(f"lm {options.seed} {step}")
        easy = 0.8 * max(0.0, 1 - 6 * step / options.steps)  # lone groups first
        pages = [write_page(rng, groups=1 if rng.random() < easy else None) for _ in range(options.batch)]
        batch = lay_out(pages, rng.choices(tuple(MANNERS), weights=tuple(MANNERS.values()), k=len(pages)), tokenizer)
        noise.where = batch.summary
        logits = logits_of(model, batch)[:, :-1]
        noise.where = None
        weights = batch.weights[:, 1:]
        losses = F.cross_entropy(logits.flatten(0, 1), batch.input_ids[:, 1:].flatten(), reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum()

    def report() -> str:
        return "  ".join(f"{manner} {answers_right(model, tokenizer, manner):.4f}" for manner in MANNERS)

    pretrain(model, loss_at, steps=options.steps, peak_rate=options.rate, state_file=options.state, report=report)
    model.half().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
