"""What perception costs when text is generated: plain language model, with perception, and with it but no cache.

    python benchmarks/generation.py --model facebook/opt-125m --tokens 64

Each runs in a process of its own, all at the same time and a few tokens at a time in turn (benchmarks/turns.py);
without a cache, which takes minutes, once, in turn with one run of the cached. Of each turn the median over the runs
counts. Ratios are told: of the time of all tokens, and of the time to the first; seconds of a GPU alone. The first of
the batch sizes is what a recipe generates at once; a small one shows what the cache is worth where reading the weights
takes longer than multiplying by them. Without weights to load, `--shape opt-125m` makes random ones of that shape on
the device: the speed is the same. Weights are as precise as a recipe holds them by default, or as `--dtype` says.
Writes benchmarks/results/generation.json, or a file named after what was asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import DEVICE, device_name, name_of
from shapes import LANGUAGE_MODELS, language_model
from torch import Tensor
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList
from turns import Turns, side_by_side

from epalm import PerceptualLM
from epalm.models.precision import best_attention, best_dtype

ASKED: Mapping[str, Any] = {
    "model": None, "shape": "opt-125m", "dtype": None, "batches": [32, 4], "text": 16, "tokens": 64,
}  # fmt: skip
"""What is measured unless something else is asked for."""


WAYS = ("plain", "perception", "uncached")
TOKENS_A_TURN = 4


class Marked(StoppingCriteria):
    """Ends a turn after every few new tokens, and never stops."""

    def __init__(self, turns: Turns, tokens: int) -> None:
        self.turns, self.tokens, self.count = turns, tokens, 0

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """(B,), all false."""
        self.count += 1
        if self.count % TOKENS_A_TURN == 0 and self.count < self.tokens:
            self.turns.wait()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def measure(options: argparse.Namespace) -> None:
    """One way, in this process, in its turns: seconds of the turns of each of some runs."""
    lm = loaded(options)
    torch.manual_seed(options.seed)
    model = PerceptualLM.build(lm, config="epalm_pt", encoder_width=768, encoder_levels=12).eval()
    ids = torch.randint(4, lm.config.vocab_size, (options.batch, options.text), device=model.device)
    features = torch.randn(options.batch, next(iter(model.levels.values())), 768, device=model.device)
    arguments: dict[str, Any] = {"input_ids": ids, "do_sample": False, "pad_token_id": 1}
    if options.way == "plain":
        generate, arguments["attention_mask"] = lm.generate, torch.ones_like(ids)
    else:
        generate, arguments["features"] = model.generate, features
        arguments["use_cache"] = options.way == "perception"
    turns, runs = Turns(), []
    with torch.no_grad():
        generate(**arguments, min_new_tokens=4, max_new_tokens=4)  # warms up
        for _ in range(options.repeats):
            before = len(turns.seconds)
            turns.wait()
            marks = StoppingCriteriaList([Marked(turns, options.tokens)])
            generate(**arguments, min_new_tokens=options.tokens, max_new_tokens=options.tokens, stopping_criteria=marks)
            turns.end()
            runs.append(turns.seconds[before:])
    turns.done(runs)


def in_turns(ways: Sequence[str], batch: int, options: argparse.Namespace, **changed: Any) -> dict[str, float]:
    """Seconds of each way: of each turn the median over the runs, and their sum."""
    names = ("model", "shape", "dtype", "text", "tokens", "repeats", "seed")
    values = {name: getattr(options, name) for name in names} | changed
    arguments = [text for name, value in values.items() if value is not None for text in (f"--{name}", str(value))]
    start = [sys.executable, __file__, "--batch", str(batch), *arguments]
    runs = side_by_side({way: [*start, "--way", way] for way in ways})
    return {way: sum(map(statistics.median, zip(*each, strict=True))) for way, each in runs.items()}


def compare(batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """All three at one batch size."""
    seconds = in_turns(["plain", "perception"], batch, options)
    uncached_seconds = in_turns(["perception", "uncached"], batch, options, repeats=1)
    times = uncached_seconds["uncached"] / uncached_seconds["perception"]
    seconds["uncached"] = times * seconds["perception"]
    first = in_turns(WAYS, batch, options, tokens=1)
    result: dict[str, Any] = {
        "batch": batch,
        "generation_overhead": seconds["perception"] / seconds["plain"] - 1,
        "generation_cache_speedup": times,
        "tokens_per_second_over_plain": {name: seconds["plain"] / each for name, each in seconds.items()},
        "first_token_time_over_plain": {name: each / first["plain"] for name, each in first.items()},
    }
    if DEVICE == "cuda":
        result["seconds"] = seconds
        result["tokens_per_second"] = {name: batch * options.tokens / each for name, each in seconds.items()}
        result["first_token_seconds"] = first
    return result


def dtype_of(options: argparse.Namespace) -> torch.dtype:
    """Of the weights."""
    return getattr(torch, options.dtype) if options.dtype else best_dtype(DEVICE)


def loaded(options: argparse.Namespace) -> Any:
    """The language model."""
    dtype = dtype_of(options)
    if not options.model:
        return language_model(options.shape, dtype).eval()
    attention = best_attention(dtype, DEVICE)
    lm = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, attn_implementation=attention)
    return lm.to(DEVICE).eval()


def file_of(options: argparse.Namespace) -> Path:
    """Where the results go: those of the sizes that are always measured to a file of their own."""
    name = "generation"
    if any(getattr(options, key) != value for key, value in ASKED.items()):
        parts = [Path(options.model or options.shape).name, f"b{'-'.join(map(str, options.batches))}"]
        parts += [options.dtype] if options.dtype else []
        parts += [f"{key}{getattr(options, key)}" for key in ("text", "tokens") if getattr(options, key) != ASKED[key]]
        name = "-".join([name, *parts])
    return Path("benchmarks/results") / f"{name}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id or directory of a language model")
    parser.add_argument("--shape", choices=LANGUAGE_MODELS)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="unset: as a recipe by default")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--text", type=int, help="tokens in front")
    parser.add_argument("--tokens", type=int, help="new tokens")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="unset: by what is asked for")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.set_defaults(**ASKED)
    options = parser.parse_args()
    if options.way:
        measure(options)
        return
    options.out = options.out or file_of(options)
    result = {
        "settings": {key: str(value) for key, value in vars(options).items()},
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "dtype": name_of(dtype_of(options)),
        "batches": [compare(batch, options) for batch in options.batches],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
