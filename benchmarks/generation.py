"""What perception costs when text is generated: plain language model, with perception, and with it but no cache.

    python benchmarks/generation.py --model facebook/opt-125m --tokens 64

All three run side by side in one process, in turn, several times (without a cache no more than twice, as it takes
minutes); the medians' ratios are what counts. The first of the batch sizes is what a recipe generates at once; a small
one shows what the cache is worth where reading the weights takes longer than multiplying by them. Without weights to
load, `--shape opt-125m` makes random ones of that shape: the speed is the same. Writes a JSON file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from epalm import PerceptualLM

SHAPES = {
    "opt-125m": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072},
    "opt-350m-like": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096},
    "opt-1.3b": {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192},
}


def timed(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def compare(lm: Any, model: PerceptualLM, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """All three at one batch size."""
    ids = torch.randint(4, lm.config.vocab_size, (batch, options.text), device=model.device)
    features = torch.randn(batch, next(iter(model.levels.values())), 768, device=model.device)
    length = {"min_new_tokens": options.tokens, "max_new_tokens": options.tokens, "do_sample": False, "pad_token_id": 1}
    mask = torch.ones_like(ids)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: lm.generate(ids, attention_mask=mask, **length),
        "perception": lambda: model.generate(ids, features=features, **length),
        "uncached": lambda: model.generate(ids, features=features, use_cache=False, **length),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for turn in range(options.repeats + 1):
            for name, work in ways.items():
                if name != "uncached" or turn <= 2:
                    seconds[name].append(timed(work))
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first run warms up
    result: dict[str, Any] = {
        "batch": batch,
        "generation_overhead": medians["perception"] / medians["plain"] - 1,
        "generation_cache_speedup": medians["uncached"] / medians["perception"],
    }
    if torch.cuda.is_available():
        result["median_seconds"] = medians
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id or directory of a language model")
    parser.add_argument("--shape", choices=SHAPES, default="opt-125m")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 4])
    parser.add_argument("--text", type=int, default=16, help="tokens in front")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/generation.json"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.model:
        lm = AutoModelForCausalLM.from_pretrained(options.model)
    else:
        lm = OPTForCausalLM(OPTConfig(**SHAPES[options.shape]))
    lm = lm.to(device).eval()
    model = PerceptualLM.build(lm, config="epalm_pt", encoder_width=768, encoder_levels=12).eval()
    result = {
        "settings": {key: str(value) for key, value in vars(options).items()},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "batches": [compare(lm, model, batch, options) for batch in options.batches],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
