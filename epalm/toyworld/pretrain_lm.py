"""Pretrains the toy world's language model: a small OPT on text alone.

    python -m epalm.toyworld.pretrain_lm

No picture, clip or sound is involved. The text states facts in several sentences and then asks about them, or retells
them as a caption (`epalm.toyworld.pages`); and every step reads as much again that has been condensed to one vector
(`epalm.toyworld.condensed`). A few attention heads are shown where to look until shortly before the end.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutputWithPast

from epalm.toyworld.condensed import Condenser, Slots, condense, draw_example, lay_out_examples
from epalm.toyworld.pages import (
    BOS,
    EOS,
    GUIDED_HEADS,
    MAX_POSITIONS,
    PAD,
    Batch,
    Page,
    Vocabulary,
    lay_out,
    train_tokenizer,
    write_page,
)  # fmt: skip
from epalm.toyworld.pretrain import half_where_it_pays, options_parser, pretrain
from epalm.toyworld.wording import Statement

HOME = Path(__file__).parent / "backbones" / "lm"
_GUIDES = {  # which layout guides which layers, and the first of the heads
    "named": ((0, 1), 0),
    "described": ((0, 1), GUIDED_HEADS),
    "sought": ((2, 3), 0),
    "checked": ((3,), GUIDED_HEADS),
}


def read(model: OPTForCausalLM, batch: Batch) -> CausalLMOutputWithPast:
    """Logits (B, T, V) and, of each layer, attention probabilities (B, heads, T, T)."""
    mask = torch.zeros(batch.visible.shape).masked_fill(~batch.visible, torch.finfo(torch.float32).min)
    with half_where_it_pays():
        return model(
            input_ids=batch.input_ids, attention_mask=mask, position_ids=batch.position_ids, use_cache=False,
            output_attentions=True,
        )  # fmt: skip


def target_loss(output: CausalLMOutputWithPast, batch: Batch) -> Tensor:
    """Cross-entropy of the targets, weighed."""
    weights = batch.weights[:, 1:]
    weighted = weights > 0
    losses = F.cross_entropy(
        output.logits[:, :-1][weighted].float(), batch.input_ids[:, 1:][weighted], reduction="none"
    )
    return (losses * weights[weighted]).sum() / weights.sum()


def look_aside(attentions: Sequence[Tensor], batch: Batch) -> Tensor:
    """How far guided heads look away from where they should: mean -log of the attention well spent, added up."""
    losses = []
    for name, (layers, first) in _GUIDES.items():
        targets = getattr(batch, name)
        guided = targets.any(-1).expand(-1, GUIDED_HEADS, -1)  # (B, H, T)
        if guided.any():
            heads = slice(first, first + GUIDED_HEADS)
            spent = [(attentions[layer][:, heads].float() * targets).sum(-1)[guided] for layer in layers]
            losses.append(-(torch.cat(spent) + 1e-3).log().mean())
    return torch.stack(losses).sum()


def answers_right(output: CausalLMOutputWithPast, batch: Batch) -> Iterator[tuple[int, bool]]:
    """Row of every answer, and whether each of its tokens is the likeliest one."""
    hit = output.logits[:, :-1].argmax(-1) == batch.input_ids[:, 1:]  # (B, T - 1)
    for row, (answer, right) in enumerate(zip(batch.answers[:, 1:].tolist(), hit.tolist(), strict=True)):
        run: list[bool] = []
        for at, inside in enumerate(answer):
            if inside:
                run.append(right[at])
            if run and (not inside or at + 1 == len(answer) or batch.input_ids[row, at + 1] == EOS):
                yield row, all(run)
                run = []


@torch.no_grad()
def reads_openly(model: OPTForCausalLM, vocabulary: Vocabulary, pages: int = 64, *, closed: bool = False) -> float:
    """Share of answers over fresh pages that are right to the last token; `closed`: the passage is left out."""
    rng = random.Random("lm check")
    right = []
    for _ in range(pages // 8):
        written = [write_page(rng) for _ in range(8)]
        if closed:
            written = [Page([Statement("")], page.asked) for page in written]
        batch = lay_out(written, vocabulary)
        right += [hit for _, hit in answers_right(read(model, batch), batch)]
    return sum(right) / len(right)


@torch.no_grad()
def reads_condensed(
    model: OPTForCausalLM, vocabulary: Vocabulary, condenser: Condenser, slots: Slots, rows: int = 768
) -> dict[str, float]:
    """The same of notes condensed to a vector, by kind of example."""
    rng = random.Random("condensed check")
    right = defaultdict(list)
    for _ in range(rows // 128):
        examples = [draw_example(rng, 0.0) for _ in range(128)]
        batch = lay_out_examples(examples, vocabulary)
        slots.vectors = condense(examples, condenser)
        for row, hit in answers_right(read(model, batch), batch):
            example = examples[row]
            supposes = example.asked is not None and example.asked.answer in ("yes", "no")
            right[example.kind].append(hit)
            right["yes or no" if supposes else "others"].append(hit)
        slots.vectors = None
    return {kind: sum(hits) / len(hits) for kind, hits in sorted(right.items())}


@torch.no_grad()
def _start_alike(model: OPTForCausalLM) -> None:
    """Let words speak first, and let attention begin by finding and copying what is alike.

    Word embeddings are large and MLPs add little to them in the beginning; otherwise what tells one word from another
    of its kind drowns before any layer has learned to read it. Positions start as sinusoids. Values come out of
    attention in the basis they went in, and from the third layer on queries and keys are projected alike (mimetic
    initialization, Trockman & Kolter 2023, with another sign).
    """
    decoder = model.model.decoder
    nn.init.normal_(decoder.embed_tokens.weight, std=0.5)
    rows, width = decoder.embed_positions.weight.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(rows)[:, None] * rates  # (positions, W / 2)
    decoder.embed_positions.weight.copy_(0.35 * torch.cat([angles.sin(), angles.cos()], dim=1))
    heads = model.config.num_attention_heads
    for level, layer in enumerate(decoder.layers):
        nn.init.normal_(layer.fc2.weight, std=0.01)
        attention = layer.self_attn
        nn.init.orthogonal_(attention.v_proj.weight)
        attention.out_proj.weight.copy_(0.5 * attention.v_proj.weight.T)
        if level >= 2:
            alike = [nn.init.orthogonal_(torch.empty(width // heads, width)) for _ in range(heads)]
            attention.q_proj.weight.copy_(0.8 * torch.cat(alike))
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def _between(done: float, start: tuple[float, float], end: tuple[float, float]) -> float:
    """Linear from one (share of the steps, value) to another, and level on either side."""
    share = min(1.0, max(0.0, (done - start[0]) / (end[0] - start[0])))
    return start[1] + share * (end[1] - start[1])


def _settled_tokenizer(seed: int, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of the run that is gone on with, else a new one: its numbers depend on every word of the text."""
    if not folder.is_dir():
        train_tokenizer(seed).save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def main() -> None:
    """Pretrain, then write `backbones/lm` in half precision with its tokenizer."""
    parser = options_parser(__doc__, HOME, steps=9000, batch=112, rate=1e-3)
    parser.add_argument("--pages", type=int, default=8, help="pages read openly in every step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = _settled_tokenizer(options.seed, options.state.with_suffix(".tokenizer"))
    vocabulary = Vocabulary(tokenizer)
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=192, num_hidden_layers=6, num_attention_heads=6, ffn_dim=576,
        max_position_embeddings=MAX_POSITIONS, word_embed_proj_dim=192, dropout=0.0, attention_dropout=0.0,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, init_std=0.07,
        tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    # Untied: tied embeddings of words of one kind fall together before there is a use for telling them apart, and then
    # nothing can be read any more.
    model = OPTForCausalLM(config)
    _start_alike(model)
    if options.start_from:
        model.load_state_dict(OPTForCausalLM.from_pretrained(options.start_from, dtype=torch.float32).state_dict())
    condenser = Condenser(config.hidden_size)
    slots = Slots(model.model.decoder.layers, noise=0.5, mixture=0.35)

    def loss_at(step: int) -> Tensor:
        done = step / options.steps
        rng = random.Random(f"lm {options.seed} {step}")
        guide = _between(done, (0.7, 0.5), (0.9, 0.0))
        terse, supposing = _between(done, (0.3, 0.5), (0.6, 0.1)), _between(done, (0.1, 0.0), (0.2, 0.35))
        examples = [draw_example(rng, supposing) for _ in range(options.batch)]
        batch = lay_out_examples(examples, vocabulary)
        slots.vectors = slots.mix(condense(examples, condenser))
        output = read(model, batch)
        slots.vectors = None
        loss = target_loss(output, batch) + guide * look_aside(output.attentions, batch)
        if options.pages:
            pages = [
                write_page(rng, groups=rng.choices((1, 2, 3), weights=(3, 6, 1))[0], terse=terse, supposing=supposing)
                for _ in range(options.pages)
            ]
            batch = lay_out(pages, vocabulary)
            output = read(model, batch)
            loss = loss + target_loss(output, batch) + guide * look_aside(output.attentions, batch)
        return loss

    def report() -> str:
        condensed = reads_condensed(model, vocabulary, condenser, slots)
        words = [
            f"open {reads_openly(model, vocabulary):.3f}",
            f"closed {reads_openly(model, vocabulary, closed=True):.3f}",
        ]
        return "  ".join([*words, *(f"{kind} {share:.3f}" for kind, share in condensed.items())])

    pretrain(
        nn.ModuleDict({"model": model, "condenser": condenser}), loss_at, steps=options.steps, peak_rate=options.rate,
        state_file=options.state, report=report, warmup=100,
    )  # fmt: skip
    model.half().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
