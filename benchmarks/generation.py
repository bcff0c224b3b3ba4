"""What perception costs when text is generated: plain language model, with perception, and with it but no cache.

    python benchmarks/generation.py --model facebook/opt-125m --tokens 64

All three run side by side in one process, in turn, several times (without a cache no more than twice, as it takes
minutes); the medians' ratios are what counts: of tokens a second, and of the time to the first token. Seconds are told
of a GPU alone. The first of the batch sizes is what a recipe generates at once; a small one shows what the cache is
worth where reading the weights takes longer than multiplying by them. Without weights to load, `--shape opt-125m` makes
random ones of that shape on the device: the speed is the same. Weights are as precise as a recipe holds them by
default, or as `--dtype` says. Writes benchmarks/results/generation.json, or a file named after what was asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from machine import DEVICE, device_name, name_of, now
from shapes import LANGUAGE_MODELS, language_model
from transformers import AutoModelForCausalLM

from epalm import PerceptualLM
from epalm.models.precision import best_attention, best_dtype

ASKED: Mapping[str, Any] = {
    "model": None, "shape": "opt-125m", "dtype": None, "batches": [32, 4], "text": 16, "tokens": 64,
}  # fmt: skip
"""What is measured unless something else is asked for."""


def timed(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    started = now()
    work()
    return now() - started


def in_turns(ways: Mapping[str, Callable[[], object]], repeats: int, uncached: int) -> dict[str, float]:
    """Median seconds of each; without a cache of so many runs at most."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for turn in range(repeats + 1):
            for name, work in ways.items():
                if name != "uncached" or turn <= uncached:
                    seconds[name].append(timed(work))
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first run warms up


def compare(lm: Any, model: PerceptualLM, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """All three at one batch size."""
    ids = torch.randint(4, lm.config.vocab_size, (batch, options.text), device=model.device)
    features = torch.randn(batch, next(iter(model.levels.values())), 768, device=model.device)
    mask = torch.ones_like(ids)

    def ways(tokens: int) -> dict[str, Callable[[], object]]:
        length: dict[str, Any] = {
            "min_new_tokens": tokens,
            "max_new_tokens": tokens,
            "do_sample": False,
            "pad_token_id": 1,
        }
        return {
            "plain": lambda: lm.generate(ids, attention_mask=mask, **length),
            "perception": lambda: model.generate(ids, features=features, **length),
            "uncached": lambda: model.generate(ids, features=features, use_cache=False, **length),
        }

    seconds = in_turns(ways(options.tokens), options.repeats, uncached=2)
    first = in_turns(ways(1), options.repeats, uncached=options.repeats)
    result: dict[str, Any] = {
        "batch": batch,
        "generation_overhead": seconds["perception"] / seconds["plain"] - 1,
        "generation_cache_speedup": seconds["uncached"] / seconds["perception"],
        "tokens_per_second_over_plain": {name: seconds["plain"] / each for name, each in seconds.items()},
        "first_token_time_over_plain": {name: each / first["plain"] for name, each in first.items()},
    }
    if DEVICE == "cuda":
        result["median_seconds"] = seconds
        result["tokens_per_second"] = {name: batch * options.tokens / each for name, each in seconds.items()}
        result["first_token_seconds"] = first
    return result


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
    parser.set_defaults(**ASKED)
    options = parser.parse_args()
    options.out = options.out or file_of(options)
    dtype = getattr(torch, options.dtype) if options.dtype else best_dtype(DEVICE)
    if options.model:
        attention = best_attention(dtype, DEVICE)
        lm = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, attn_implementation=attention).to(DEVICE)
    else:
        lm = language_model(options.shape, dtype)
    model = PerceptualLM.build(lm.eval(), config="epalm_pt", encoder_width=768, encoder_levels=12).eval()
    torch.manual_seed(options.seed)
    result = {
        "settings": {key: str(value) for key, value in vars(options).items()},
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "dtype": name_of(dtype),
        "batches": [compare(lm, model, batch, options) for batch in options.batches],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
