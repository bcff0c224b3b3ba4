"""Pretrains the toy world's neutral language model: a small OPT that has read pages and nothing else.

    python -m epalm.toyworld.pretrain_lm_text

It has the architecture, the size and the tokenizer of `toyworld/lm`, but it never meets a vector that is no word:
every page states facts in several sentences and then asks about them, or retells them as a caption
(`epalm.toyworld.pages`). Now and then the passage is missing and it has to guess. A few attention heads are shown
where to look until shortly before the end.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer

from epalm.runtime.sources import resolve_source
from epalm.toyworld.pages import Vocabulary, lay_out, write_page
from epalm.toyworld.pretrain import options_parser, pretrain
from epalm.toyworld.reading import between, new_reader, read, reading_loss, reads_openly, without_passage

HOME = Path(__file__).parent / "backbones" / "lm_text"
_GUESSED = 0.08  # share of the pages whose passage is missing


def main() -> None:
    """Pretrain, then write `backbones/lm_text` in half precision with its tokenizer."""
    options = options_parser(__doc__, HOME, steps=4000, batch=12, rate=1e-3).parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer_folder = Path(resolve_source("toyworld/lm"))
    vocabulary = Vocabulary(AutoTokenizer.from_pretrained(tokenizer_folder))
    model = new_reader(len(vocabulary.words), options.start_from)

    def loss_at(step: int) -> Tensor:
        done = step / options.steps
        rng = random.Random(f"lm_text {options.seed} {step}")
        guide = between(done, (0.7, 0.5), (0.9, 0.0))
        terse, supposing = between(done, (0.3, 0.5), (0.6, 0.1)), between(done, (0.1, 0.0), (0.2, 0.35))
        pages = []
        for _ in range(options.batch):
            groups = rng.choices((1, 2, 3), weights=(3, 6, 1))[0]
            page = write_page(rng, groups=groups, terse=terse, supposing=supposing)
            pages.append(without_passage(page) if rng.random() < _GUESSED else page)
        batch = lay_out(pages, vocabulary)
        return reading_loss(read(model, batch), batch, guide)

    def report() -> str:
        shares = {
            "open": reads_openly(model, vocabulary),
            "closed": reads_openly(model, vocabulary, closed=True),
        }
        return "  ".join(f"{manner} {share:.3f}" for manner, share in shares.items())

    pretrain(
        model, loss_at, steps=options.steps, peak_rate=options.rate, state_file=options.state, report=report,
        warmup=100,
    )  # fmt: skip
    model.half().save_pretrained(options.out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / name, options.out / name)


if __name__ == "__main__":
    main()
