"""What a training step costs: the original's loop, features kept, and features kept with the lean step.

    python benchmarks/training.py                       (OPT-125M + ViT-B/16, batch 8 and 32; OPT-350M, batch 8)
    python benchmarks/training.py --lm opt-1.3b --encoder vit-l --batches 8
    python benchmarks/training.py --batches 8 --adapter epalm_lin

On a GPU the first line also measures OPT-1.3B, 2.7B and 6.7B with ViT-L, as far as they fit its memory.

`naive` perceives in every step, in float32, pads to the longest row there is, and computes logits everywhere, as the
original does. `store` is the package's loop on a feature store on disk, in float32. `lean` is the same loop with frozen
weights in bfloat16 where the hardware multiplies it (a recipe's default), and rows of like length together
(`training.group_by_length`). With `epalm_lin`, which has no soft prompt, it also keeps what the layers below the window
make of a text (`training.cache_lower_layers`). Weights are random, which changes no speed. Every way runs in a process
of its own, all at the same time and a few steps at a time in turn (benchmarks/turns.py), over as many steps as visit
all rows; of the naive way, whose steps are all alike, over a few. Ratios are of mean steps. On a GPU there are more of
both, the clock is read only when the device has done all that it was given, and the naive way finds its pictures
decoded, as by other processes. Writes benchmarks/results/training.json, or a file named after the sizes where they are
given.

`loss_difference` is the largest relative difference from the naive way's losses over the first steps on the same
batches, at the same rate, in float32 (`store`) and as precise as the lean step (`lean`).

`lm_matmul_share` counts what a lean step must multiply: two products forwards and two backwards for each parameter of
the layers and each token that predicts one or is seen by one (padding is not), and for each parameter of the output
embedding and each token that is learned; fewer where layers are kept or no gradient goes. It is the time that takes at
the rate of large products, measured before each of the way's turns, over the time of the step. `flop_ratio` is what a
naive step multiplies over what a lean one does: the most that a lean step can gain where both are in one precision.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import DEVICE, PRODUCT_FLOP, device_name, name_of, product_seconds
from shapes import ENCODERS, LANGUAGE_MODELS, encoder, language_model, layers_in_bytes
from torch import Tensor
from transformers import AutoTokenizer, ViTConfig
from turns import Turns, side_by_side

from epalm import PerceptualLM
from epalm.data.collate import collate
from epalm.data.file_features import PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.data.store import CachedFeatures, ImportedFeatures, describe_encoder
from epalm.data.views import Views
from epalm.media import load_media
from epalm.models.precision import best_dtype
from epalm.recipe import TrainingSettings
from epalm.settings import AdapterConfig
from epalm.tasks import Tasks
from epalm.toyworld.dataset import write_dataset
from epalm.training.batches import Batches
from epalm.training.learner import parameter_groups
from epalm.training.loop import train

TOKENIZER = Path(__file__).parents[1] / "epalm" / "toyworld" / "backbones" / "lm"
WAYS = ("naive", "store", "lean")
SIZES = [("opt-125m", "vit-b", [8, 32]), ("opt-350m", "vit-b", [8])]
LARGE = [(name, "vit-l", [8, 32]) for name in ("opt-1.3b", "opt-2.7b", "opt-6.7b")]
"""Beside those, on a GPU."""
WARM_UP = 2 if DEVICE == "cpu" else 32
ROUNDS = 4
"""Turns of each way in one run."""
NAIVE_STEPS = 1 if DEVICE == "cpu" else 12
LEAST_STEPS = 1 if DEVICE == "cpu" else 25
"""In a turn; of the other ways, which visit all rows, at least."""
COMPARED = 5
"""Steps whose losses are compared."""
RATE = 1e-4


def build(
    lm_shape: str,
    encoder_shape: str,
    way: str,
    levels: int | None = None,
    *,
    adapter: str = "epalm_pt",
    drawn_in: torch.dtype | None = None,
) -> PerceptualLM:
    """The model with random weights on the best device there is, `naive` with its encoder."""
    lm = language_model(lm_shape, best_dtype(DEVICE) if way == "lean" else torch.float32, drawn_in)
    sizes = ViTConfig(**ENCODERS[encoder_shape])
    config = AdapterConfig.from_preset(adapter).model_copy(update={"levels": levels})
    encoder_sizes = {"encoder_width": sizes.hidden_size, "encoder_levels": sizes.num_hidden_layers}
    eyes = encoder(encoder_shape) if way == "naive" else None
    torch.manual_seed(0)  # so that every way starts from the same adapter
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    return PerceptualLM.build(lm, eyes, config, tokenizer=tokenizer, **({} if eyes else encoder_sizes))


class Marked(PerceivedFiles):
    """The features of a store, as they are read; where a step asks for its own, it begins.

    Args:
        folder: of the store.
        levels: K.
        begins: called with the step's number, counted from 0.
    """

    def __init__(self, folder: Path, levels: int, begins: Callable[[int], None]) -> None:
        super().__init__({}, {"image": levels}, kept={"image": ImportedFeatures(folder)})
        self._begins = begins

    def of(self, rows: Any, *, step: int | None = None) -> dict[str, Tensor]:
        """(B, K, E)."""
        if step is not None:
            self._begins(step)
        return super().of(rows, step=step)


def perceiving(model: PerceptualLM, rows: Any) -> Callable[[Sequence[int]], dict[str, Tensor]]:
    """Perceives rows from their files."""
    perceived = PerceivedFiles.of_model(model, keep=False)
    return lambda numbers: perceived.of([rows[number].media for number in numbers])


def decoded(model: PerceptualLM, rows: Any) -> Callable[[Sequence[int]], dict[str, Tensor]]:
    """Perceives rows whose pictures have been decoded before."""
    eyes = model.encoders["image"]
    inputs_by_file = {
        path: eyes.preprocess([load_media("image", path, **eyes.reading)])
        for path in dict.fromkeys(row.media["image"] for row in rows)
    }

    def perceive(numbers: Sequence[int]) -> dict[str, Tensor]:
        pictures = [inputs_by_file[rows[number].media["image"]] for number in numbers]
        inputs = {name: torch.cat([picture[name] for picture in pictures]) for name in pictures[0]}
        return {"image": eyes.features(inputs, model.levels["image"])}

    return perceive


def longest_of(rows: Any, tasks: Tasks) -> int:
    """Tokens of the longest row."""
    return max(map(sum, tokens_of(rows, tasks)))


def tokens_of(rows: Any, tasks: Tasks) -> list[tuple[int, int]]:
    """Of every row the tokens in front of what is learned, and those that are."""
    pairs = (tasks.encode(row, random.Random(0)) for row in rows)
    return [(len(pair.prompt_ids), len(pair.target_ids)) for pair in pairs]


def naive(
    model: PerceptualLM, rows: Any, tasks: Tasks, settings: TrainingSettings, begins: Callable[[int], None]
) -> list[float]:
    """The original's loop, and the losses of all steps."""
    assert settings.steps is not None
    perceive = perceiving(model, rows) if DEVICE == "cpu" else decoded(model, rows)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings))
    longest = longest_of(rows, tasks)
    batches = Batches([0] * len(rows), settings.batch_size, settings.seed).after(0)
    losses = []
    for step in range(settings.steps):
        begins(step)
        numbers = next(batches)
        draws = random.Random(f"{settings.seed} {step}")
        batch = collate([tasks.encode(rows[number], draws) for number in numbers], tasks.pad_id)
        pad = longest - batch.input_ids.shape[1]
        ids = torch.nn.functional.pad(batch.input_ids, (0, pad), value=tasks.pad_id)
        mask, labels = (
            torch.nn.functional.pad(t, (0, pad), value=v) for t, v in ((batch.attention_mask, 0), (batch.labels, -100))
        )
        logits = model(ids, attention_mask=mask, features=perceive(numbers)).logits
        text = logits[:, -ids.shape[1] :][:, :-1].flatten(0, 1).float()
        target = labels[:, 1:].flatten().to(text.device)
        loss = torch.nn.functional.cross_entropy(text, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def ours(
    model: PerceptualLM, rows: Any, tasks: Tasks, settings: TrainingSettings, store: Path, begins: Callable[[int], None]
) -> list[float]:
    """The package's loop, and the losses of all steps."""
    perceived = Marked(store, model.levels["image"], begins)
    return list(train(model, rows, tasks, settings, perceived=perceived).losses)


def captions(options: argparse.Namespace, tasks: Tasks) -> Any:
    """The rows that all ways train on."""
    return tasks.expand([row for row in read_manifest(options.rows) if row.task == "captioning"])


def measure(options: argparse.Namespace) -> None:
    """One way, in this process, in its turns."""
    model = build(options.lm, options.encoder, options.way, adapter=options.adapter)
    dtype = next(model.language_model.parameters()).dtype
    tasks = Tasks(model.tokenizer)
    rows = captions(options, tasks)
    visit = -(-len(rows) // options.batch)
    per_turn = NAIVE_STEPS if options.way == "naive" else max(LEAST_STEPS, -(-visit // ROUNDS))
    keeps_layers = options.way == "lean" and model.prompt is None
    warm_up = WARM_UP + (visit if keeps_layers else 0)  # a text is new in one visit of many
    settings = TrainingSettings(
        steps=warm_up + ROUNDS * per_turn + 1,  # the last shows where the one before ends
        batch_size=options.batch,
        learning_rate=RATE,
        group_by_length=options.way == "lean",
        cache_lower_layers=keeps_layers,
    )
    turns, products = Turns(), []

    def begins(step: int) -> None:
        turn, within = divmod(step - warm_up, per_turn)
        if turn == ROUNDS:
            turns.end()
        elif turn >= 0 and within == 0:
            turns.wait()
            if options.way == "lean":
                products.append(product_seconds(dtype))
                turns.begin()

    if options.way == "naive":
        naive(model, rows, tasks, settings, begins)
    else:
        ours(model, rows, tasks, settings, options.store, begins)
    if DEVICE == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])  # of this process alone, unlike getrusage's
    tokens = tokens_of(rows, tasks)
    turns.done(
        {
            "seconds": sum(turns.seconds) / (ROUNDS * per_turn),
            "peak": peak,
            "flop": flop_of_a_row(model, tokens, options.way),
            "product_seconds": statistics.mean(products) if products else None,
            "dtype": name_of(dtype),
        }
    )


def flop_of_a_row(model: PerceptualLM, rows: list[tuple[int, int]], way: str) -> float:
    """Multiplications and additions that a row takes in products with weights.

    Args:
        model: `naive` with its encoder.
        rows: see `tokens_of`.
        way: its own.
    """
    every = [sum(p.numel() for p in layer.parameters()) for layer in model.anatomy.layers]
    above = every[model.window.start :]
    learning, front = (every, 2) if model.prompt is not None else (above, 1)  # slot and soft prompt
    head = model.language_model.get_output_embeddings().weight.numel()
    if way == "naive":
        eyes = model.encoders["image"].backbone
        patches = (eyes.config.image_size // eyes.config.patch_size) ** 2 + 1
        blocks = sum(p.numel() for name, p in eyes.named_parameters() if ".layer" in name or "layers." in name)
        tokens = max(map(sum, rows)) + front
        return 2 * blocks * patches + (2 * sum(every) + 2 * sum(learning) + 4 * head) * tokens
    tokens = statistics.mean(map(sum, rows)) + front - 1  # the last predicts nothing
    return 4 * (sum(learning) * tokens + head * statistics.mean(learned for _, learned in rows))


def losses(options: argparse.Namespace) -> list[float]:
    """Of the first steps of one way, in this process; the naive way fills the store."""
    settings = TrainingSettings(
        steps=COMPARED, batch_size=8, learning_rate=RATE, warmup=0.0, final_rate=1.0, clip=None
    )  # as the naive way: one rate, and gradients as they are
    model = build(  # so that all have the same weights
        options.lm, options.encoder, options.way, adapter=options.adapter, drawn_in=torch.float32
    )
    tasks = Tasks(model.tokenizer)
    rows = captions(options, tasks)
    if options.way != "naive":
        return ours(model, rows, tasks, settings, options.store, lambda step: None)
    description = describe_encoder(model.encoders["image"], model.levels["image"])
    kept = CachedFeatures(options.store, description, Views(), 32)
    PerceivedFiles.of_model(model, kept={"image": kept}).perceive([row.media for row in rows])
    return naive(model, rows, tasks, settings, lambda step: None)


def differences(options: argparse.Namespace) -> dict[str, float]:
    """How far the losses of the other ways are from the naive way's."""
    results: dict[str, list[float]] = {}
    for way in WAYS:
        done = subprocess.run(command(options, "losses", way=way), stdout=subprocess.PIPE, text=True, check=True)
        results[way] = json.loads(done.stdout.splitlines()[-1])
    return {
        way: max(abs(a - b) / a for a, b in zip(results["naive"], results[way], strict=True))
        for way in ("store", "lean")
    }


def command(options: argparse.Namespace, part: str, **changed: Any) -> list[str]:
    """The command line that has this script be that part."""
    values = {name: getattr(options, name) for name in ("rows", "store", "lm", "encoder", "adapter")} | changed
    arguments = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    return [sys.executable, __file__, "--part", part, *arguments]


def compare(options: argparse.Namespace, batch: int) -> dict[str, Any]:
    """All ways at one size."""
    parts = {way: command(options, "measure", way=way, batch=batch) for way in WAYS}
    runs = [side_by_side(parts) for _ in range(options.repeats)]
    seconds = {way: statistics.mean(run[way]["seconds"] for run in runs) for way in WAYS}
    peak = {way: statistics.median(run[way]["peak"] for run in runs) for way in WAYS}
    product = statistics.mean(run["lean"]["product_seconds"] for run in runs)
    flop = {way: runs[0][way]["flop"] for way in WAYS}
    result: dict[str, Any] = {
        "lm": options.lm,
        "encoder": options.encoder,
        "adapter": options.adapter,
        "batch": batch,
        "lean_dtype": runs[0]["lean"]["dtype"],
        "speedup_store": seconds["naive"] / seconds["store"],
        "speedup_lean": seconds["naive"] / seconds["lean"],
        "flop_ratio": flop["naive"] / flop["lean"],
        "peak_memory_mib": {way: round(value / 2**20) for way, value in peak.items()},
        "peak_memory_ratio": peak["lean"] / peak["naive"],
        "lm_matmul_share": flop["lean"] * batch / PRODUCT_FLOP * product / seconds["lean"],
    }
    if DEVICE == "cuda":
        result["samples_per_second"] = {way: batch / value for way, value in seconds.items()}
    return result


def sizes_of(options: argparse.Namespace) -> list[tuple[str, str, list[int]]]:
    """Language models, encoders and batches that are asked for, else all that this machine has room for."""
    if options.lm or options.encoder or options.batches:
        return [(options.lm or "opt-125m", options.encoder or "vit-b", options.batches or [8, 32])]
    if DEVICE == "cpu":
        return SIZES
    room = torch.cuda.get_device_properties(0).total_memory
    # All ways are there at once: two in float32, one in half of that, and what they compute.
    return SIZES + [size for size in LARGE if 2.6 * layers_in_bytes(size[0]) < 0.85 * room]


def file_of(options: argparse.Namespace) -> Path:
    """Where the results go: those of the sizes that are always measured to a file of their own."""
    name = "training"
    if options.lm or options.encoder or options.batches:
        ((lm, encoder_shape, batches),) = sizes_of(options)
        name += f"-{lm}-{encoder_shape}-b{'-'.join(map(str, batches))}"
    if options.adapter != "epalm_pt":
        name += f"-{options.adapter}"
    return Path("benchmarks/results") / f"{name}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", choices=LANGUAGE_MODELS)
    parser.add_argument("--encoder", choices=ENCODERS)
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--adapter", choices=["epalm_pt", "epalm_lin"], default="epalm_pt")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, help="unset: by the sizes")
    parser.add_argument("--part", choices=["measure", "losses"], help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        measure(options) if options.part == "measure" else print(json.dumps(losses(options)))
        return
    result: dict[str, Any] = {"device": device_name(), "threads": torch.get_num_threads(), "sizes": []}
    sizes, out = sizes_of(options), options.out or file_of(options)
    with tempfile.TemporaryDirectory() as scratch:
        write_dataset(Path(scratch), 128, seed=0)
        options.rows = Path(scratch) / "all.jsonl"
        for options.lm, options.encoder, batches in sizes:
            options.store = Path(scratch) / f"{options.lm}-{options.encoder}"
            loss_difference = differences(options)
            for batch in batches:
                result["sizes"].append(compare(options, batch) | {"loss_difference": loss_difference})
                print(json.dumps(result["sizes"][-1]), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
