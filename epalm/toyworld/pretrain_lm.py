"""Pretrains the toy world's language model: a small OPT on text alone.

    python -m epalm.toyworld.pretrain_lm

No picture, clip or sound is involved. The text states facts in several sentences and then asks about them, or retells
them as a caption (`epalm.toyworld.pages`); and every step reads as much again that has been condensed to one vector
(`epalm.toyworld.condensed`). A few attention heads are shown where to look until shortly before the end.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import OPTForCausalLM, PreTrainedTokenizerFast

from epalm.toyworld.condensed import Condenser, Slots, condense, draw_example, lay_out_examples
from epalm.toyworld.pages import Vocabulary, lay_out, train_tokenizer, write_page
from epalm.toyworld.pretrain import options_parser, pretrain
from epalm.toyworld.reading import answers_right, between, new_reader, read, reading_loss, reads_openly

HOME = Path(__file__).parent / "backbones" / "lm"


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
    model = new_reader(len(tokenizer), options.start_from)
    condenser = Condenser(model.config.hidden_size)
    slots = Slots(model.model.decoder.layers, noise=0.5, mixture=0.35)

    def loss_at(step: int) -> Tensor:
        done = step / options.steps
        rng = random.Random(f"lm {options.seed} {step}")
        guide = between(done, (0.7, 0.5), (0.9, 0.0))
        terse, supposing = between(done, (0.3, 0.5), (0.6, 0.1)), between(done, (0.1, 0.0), (0.2, 0.35))
        examples = [draw_example(rng, supposing) for _ in range(options.batch)]
        batch = lay_out_examples(examples, vocabulary)
        slots.vectors = slots.mix(condense(examples, condenser))
        output = read(model, batch)
        slots.vectors = None
        loss = reading_loss(output, batch, guide)
        if options.pages:
            pages = [
                write_page(rng, groups=rng.choices((1, 2, 3), weights=(3, 6, 1))[0], terse=terse, supposing=supposing)
                for _ in range(options.pages)
            ]
            batch = lay_out(pages, vocabulary)
            loss = loss + reading_loss(read(model, batch), batch, guide)
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
