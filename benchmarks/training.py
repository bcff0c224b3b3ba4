"""What a training step costs: the original's loop, features kept, and features kept with the lean step.

    python benchmarks/training.py                       (OPT-125M + ViT-B/16, batch 8 and 32; OPT-350M, batch 8)
    python benchmarks/training.py --lm opt-1.3b --encoder vit-l --batches 8

`naive` perceives in every step, in float32, pads to the longest row there is, and computes logits everywhere, as the
original does. `store` is the package's loop on features that were perceived before, in float32. `lean` is the same loop
with frozen weights in bfloat16 where the hardware multiplies it (a recipe's default), and rows of like length together
(`training.group_by_length`). Weights are random, which changes no speed. Every way runs in a process of its own, one
after the other, several times in turn; ratios are of medians of those runs' mean steps: four of the naive way, whose
steps are all alike, and a whole visit to all rows of the others. Writes benchmarks/results/training.json.

`lm_matmul_share` counts what a step must multiply: two products forwards and two backwards for each parameter of the
layers and each token (padding is none), and for each parameter of the output embedding and each token that is learned;
over the time of the step and the rate of a large product.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM, ViTConfig, ViTImageProcessorPil, ViTModel

from epalm import PerceptualLM
from epalm.config import AdapterConfig
from epalm.data.collate import collate
from epalm.data.features import PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.encoders import load_encoder
from epalm.models.precision import best_attention, best_dtype
from epalm.recipe import TrainingSettings
from epalm.tasks import Tasks
from epalm.toyworld.dataset import write_dataset
from epalm.training.batches import Batches
from epalm.training.learner import parameter_groups
from epalm.training.loop import train

LANGUAGE_MODELS = {
    "opt-125m": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072},
    "opt-350m": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096,
        "word_embed_proj_dim": 512, "do_layer_norm_before": False,
    },
    "opt-1.3b": {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192},
    "opt-2.7b": {"hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32, "ffn_dim": 10240},
    "opt-6.7b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "ffn_dim": 16384},
}  # fmt: skip
ENCODERS = {
    "vit-b": {},
    "vit-l": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}
TOKENIZER = Path(__file__).parents[1] / "epalm" / "toyworld" / "backbones" / "lm"
WAYS = ("naive", "store", "lean")
WARM_UP = 2
RATE = 1e-4


def build(lm_shape: str, encoder_shape: str, way: str, levels: int | None = None) -> PerceptualLM:
    """The model with random weights on the best device there is, `naive` with its encoder."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = best_dtype(device) if way == "lean" else torch.float32
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)  # as a checkpoint is loaded: never in float32 first
    with torch.device(device):
        lm = OPTForCausalLM(OPTConfig(**LANGUAGE_MODELS[lm_shape], dropout=0.0))
    torch.set_default_dtype(torch.float32)
    lm.set_attn_implementation(best_attention(dtype, device) or "sdpa")
    encoder: Any = None
    if way == "naive":
        vit = ViTModel(ViTConfig(**ENCODERS[encoder_shape]), add_pooling_layer=False).to(device)
        encoder = load_encoder(vit, processor=ViTImageProcessorPil())
    width = ViTConfig(**ENCODERS[encoder_shape]).hidden_size
    config = AdapterConfig.from_preset("epalm_pt").model_copy(update={"levels": levels})
    ready = {} if encoder else {"encoder_width": width, "encoder_levels": 12}
    return PerceptualLM.build(lm, encoder, config, tokenizer=AutoTokenizer.from_pretrained(TOKENIZER), **ready)


class Kept(PerceivedFiles):
    """Features as if every file had been perceived."""

    def __init__(self, levels: int, width: int) -> None:
        super().__init__({}, {"image": levels})
        self.features = torch.randn(512, levels, width, generator=torch.Generator().manual_seed(0))

    def perceive(self, rows: Any, on_progress: Any = None, *, training: bool = False) -> None:
        """Nothing is left to do."""

    def of(self, rows: Any, *, step: int | None = None) -> dict[str, torch.Tensor]:
        """(B, K, E)."""
        return {"image": self.features[[int(row["image"].stem) % 512 for row in rows]]}


def naive(model: PerceptualLM, rows: Any, tasks: Tasks, settings: TrainingSettings) -> list[float]:
    """The original's loop: seconds and losses of every step."""
    assert settings.steps is not None
    perceived = PerceivedFiles.of_model(model, keep=False)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings))
    longest = max(
        len(pair.prompt_ids) + len(pair.target_ids) for pair in (tasks.encode(r, random.Random(0)) for r in rows)
    )
    batches = Batches([0] * len(rows), settings.batch_size, settings.seed).after(0)
    seconds = []
    for step in range(settings.steps):
        started = time.perf_counter()
        numbers = next(batches)
        draws = random.Random(f"{settings.seed} {step}")
        batch = collate([tasks.encode(rows[number], draws) for number in numbers], tasks.pad_id)
        pad = longest - batch.input_ids.shape[1]
        ids = torch.nn.functional.pad(batch.input_ids, (0, pad), value=tasks.pad_id)
        mask, labels = (
            torch.nn.functional.pad(t, (0, pad), value=v) for t, v in ((batch.attention_mask, 0), (batch.labels, -100))
        )
        features = perceived.of([rows[number].media for number in numbers], step=step)
        logits = model(ids, attention_mask=mask, features=features).logits
        text = logits[:, -ids.shape[1] :][:, :-1].flatten(0, 1).float()
        target = labels[:, 1:].flatten().to(text.device)
        loss = torch.nn.functional.cross_entropy(text, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        seconds.append(time.perf_counter() - started)
    return seconds


def ours(model: PerceptualLM, rows: Any, tasks: Tasks, settings: TrainingSettings) -> list[float]:
    """The package's loop."""
    width = next(iter(model.senses.widths.values()))
    marks = [time.perf_counter()]
    train(
        model, rows, tasks, settings, perceived=Kept(model.levels["image"], width),
        on_step=lambda step, steps, loss: marks.append(time.perf_counter()),
    )  # fmt: skip
    return [after - before for before, after in itertools.pairwise(marks)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One way, in this process."""
    model = build(options.lm, options.encoder, options.way)
    rows = [row for row in read_manifest(options.rows) if row.task == "captioning"]
    tasks = Tasks(model.tokenizer)
    rows = tasks.expand(rows)
    steps = options.steps if options.way == "naive" else -(-len(rows) // options.batch)
    settings = TrainingSettings(
        steps=WARM_UP + steps, batch_size=options.batch, learning_rate=RATE, group_by_length=options.way == "lean"
    )
    seconds = (naive if options.way == "naive" else ours)(model, rows, tasks, settings)[WARM_UP:]
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    else:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])  # of this process alone, unlike getrusage's
    pairs = [tasks.encode(row, random.Random(0)) for row in rows]
    tokens = statistics.mean(len(pair.prompt_ids) + len(pair.target_ids) for pair in pairs) + 2  # slot and soft prompt
    learned = statistics.mean(len(pair.target_ids) for pair in pairs)
    layers = sum(p.numel() for layer in model.anatomy.layers for p in layer.parameters())
    head = model.language_model.get_output_embeddings().weight.numel()
    return {
        "seconds": statistics.mean(seconds),
        "peak": peak,
        "flop_per_row": 4 * (layers * tokens + head * learned),
        "dtype": str(next(model.language_model.parameters()).dtype),
    }


def matmul_limit(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP per second of a large square product, the best of several."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def losses_agree(options: argparse.Namespace) -> float:
    """Largest difference between losses of float32 and of the lean step over the first steps of the same run."""
    told = []
    for way in ("store", "lean"):
        model = build(options.lm, options.encoder, way)
        tasks = Tasks(model.tokenizer)
        rows = tasks.expand([row for row in read_manifest(options.rows) if row.task == "captioning"])
        settings = TrainingSettings(steps=5, batch_size=8, learning_rate=RATE)
        width = next(iter(model.senses.widths.values()))
        told.append(train(model, rows, tasks, settings, perceived=Kept(model.levels["image"], width)).losses)
    return max(abs(a - b) / a for a, b in zip(*told, strict=True))


def in_a_process(options: argparse.Namespace, way: str, lm: str, batch: int, rows: Path) -> dict[str, Any]:
    """`measure`, so that peak memory is of this way alone."""
    arguments = [
        "--way", way, "--lm", lm, "--encoder", options.encoder, "--batch", str(batch), "--steps", str(options.steps),
        "--rows", str(rows),
    ]  # fmt: skip
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(options: argparse.Namespace, lm: str, batch: int, rows: Path) -> dict[str, Any]:
    """All ways at one size."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way in WAYS:
            runs[way].append(in_a_process(options, way, lm, batch, rows))
    seconds = {way: statistics.median(run["seconds"] for run in runs[way]) for way in WAYS}
    peak = {way: statistics.median(run["peak"] for run in runs[way]) for way in WAYS}
    lean = runs["lean"][0]
    limit = matmul_limit(getattr(torch, lean["dtype"].removeprefix("torch.")))
    result: dict[str, Any] = {
        "lm": lm,
        "batch": batch,
        "lean_dtype": lean["dtype"],
        "speedup_store": seconds["naive"] / seconds["store"],
        "speedup_lean": seconds["naive"] / seconds["lean"],
        "peak_memory_mib": {way: round(value / 2**20) for way, value in peak.items()},
        "peak_memory_ratio": peak["lean"] / peak["naive"],
        "lm_matmul_share": lean["flop_per_row"] * batch / seconds["lean"] / limit,
    }
    if torch.cuda.is_available():
        result["samples_per_second"] = {way: batch / value for way, value in seconds.items()}
    print(json.dumps(result), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", choices=LANGUAGE_MODELS)
    parser.add_argument("--encoder", choices=ENCODERS, default="vit-b")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--steps", type=int, default=4, help="of the naive way, after the warm-up")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training.json"))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return
    sizes = (
        [(options.lm, batch) for batch in options.batches]
        if options.lm
        else [("opt-125m", 8), ("opt-125m", 32), ("opt-350m", 8)]
    )
    with tempfile.TemporaryDirectory() as scratch:
        write_dataset(Path(scratch), 128, seed=0)
        options.rows, options.lm = Path(scratch) / "all.jsonl", sizes[0][0]
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        result = {
            "device": device,
            "threads": torch.get_num_threads(),
            "loss_difference": losses_agree(options),
            "sizes": [compare(options, lm, batch, options.rows) for lm, batch in sizes],
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
