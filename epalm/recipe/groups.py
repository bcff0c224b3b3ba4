"""The groups of settings that a recipe is made of: backbones, data, training, generation, published scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator

from epalm.runtime.devices import usable_device
from epalm.settings import Settings


class ModelSettings(Settings):
    """The frozen backbones."""

    language_model: str = "toyworld/lm"
    """Local directory, GGUF file or hub id of a causal language model, or `toyworld/lm`."""
    encoders: dict[str, str] = Field(default_factory=lambda: {"image": "toyworld/vit"})
    """By modality, such as `image`: local directory or hub id of its encoder, or `toyworld/vit`."""
    frames: int | None = Field(default=None, ge=1, le=10_000)
    """Frames of a clip; unset: what the video encoder was trained with, or 8 of an encoder of pictures."""
    long_sounds: Literal["first", "windows"] | None = None
    """Of sounds longer than the audio encoder's window: the `first` window alone (also if unset), or the mean of all
    `windows`."""
    statistics: Literal["own", "clip"] | None = None
    """By whose mean and spread pixels are normalised: the encoder's `own` (also if unset), or those of `clip`, as the
    original did with every encoder."""
    torch_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the frozen weights; trained tensors are always float32. `auto`: of the language model bfloat16 where
    the device multiplies it natively (GPUs and CPUs of recent years), else float32; of the encoders float32."""
    quantization: Literal["none", "int8", "8bit", "4bit"] | None = None
    """Of the language model's decoder layers: `int8`, a quarter of float32's memory, on every device; `8bit` or `4bit`,
    by the package bitsandbytes; unset: none, or as the adapter was trained."""
    shard: bool = False
    """Share the language model's decoder layers out among all processes, for one that does not fit one device."""
    device: str | None = None
    """Such as `cpu` or `cuda:0`; unset: a GPU where there is one."""
    attn_implementation: Literal["eager", "sdpa"] | None = None
    """Attention code of the language model; unset: `eager` for bfloat16 on the CPU, else transformers' choice."""

    def dtype(self) -> torch.dtype | Literal["auto"]:
        """`torch_dtype` as torch has it; `auto` is settled where the language model is loaded."""
        dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        return dtypes.get(self.torch_dtype, "auto")

    def device_or_best(self) -> torch.device:
        """The device that is named, else a GPU, else the CPU.

        Raises:
            ConfigError: there is no such device.
        """
        best = "cuda" if torch.cuda.device_count() else "cpu"
        return usable_device(best if self.device is None else self.device, "model.device", meta=False)


class DataSettings(Settings):
    """Training data, and what is scored."""

    train: Path | None = None
    """JSON Lines manifest of the training rows."""
    validation: Path | None = None
    """JSON Lines manifest that is scored when the adapter has been trained and written."""
    dataset: str | None = None
    """A published data set instead of manifests, by its name in `epalm data list`."""
    root: Path | None = None
    """Directory below which its annotations and media are."""
    train_split: str | None = None
    """Its split to train on, or several such as `train+val`; `train` takes its place."""
    validation_split: str | None = None
    """Its split to score; `validation` takes its place."""
    skip_missing: bool = False
    """Leave rows of the data set out, of both splits, whose media are not there; they are counted."""
    features: dict[str, Path] = Field(default_factory=dict)
    """By modality, such as `image`: directory of precomputed features, imported or built, in place of an encoder."""
    store: Path | Literal[False] | None = None
    """Directory below which features are kept, so that every file is perceived once and for all. Unset: the user's
    cache ($EPALM_CACHE, else ~/.cache/epalm) in training, and main memory afterwards; false: nowhere, files are
    perceived anew at every visit."""
    store_dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """What features are stored in; unset: as the encoder gives them, which loses nothing."""
    perception_batch: int = Field(default=32, ge=1)
    """Files the encoder perceives at once; a CPU is given them in pieces that fit its caches, which is faster."""
    views: int | None = Field(default=1, ge=1, le=1_000_000)
    """Views that training has of a file. 1: the one that evaluation has, which is the cheapest; V: so many random ones
    (a random frame in each interval of a clip, a random window of a longer sound, a picture as `augment` says), each
    visit drawing one; null: a new one at every visit, as the original did, with `store: false`."""
    augment: Literal["none", "crop", "flip", "strong"] = "none"
    """Random views of pictures: `crop`: a random part; `flip`: and mirrored, which spoils left and right; `strong`: and
    RandAugment."""
    mask_sounds: bool = False
    """Random views of sounds have a band of channels and a stretch of time silenced, as SpecAugment does; of AST alone,
    which takes a spectrogram."""
    holdout: float | None = Field(default=None, gt=0, lt=1)
    """Share of the training files, such as 0.1, that is set aside to choose the best adapter by; `validation` then has
    no say in it. All rows of a file go together. Unset: none."""
    evaluation_frames: Literal["middle", "random"] = "middle"
    """Of each interval of a clip, in evaluation: the middle frame, or a random one, always the same of a file, as in
    the original."""
    on_bad_media: Literal["error", "skip"] = "error"
    """Of training files that cannot be read: stop at the first, or leave their rows out and list them at the end."""
    most_bad_media: float = Field(default=0.05, ge=0, le=1)
    """Share of the training files that may be skipped; more is an error."""

    @field_validator("store", mode="before")
    @classmethod
    def _store_is_a_place(cls, value: Any) -> Any:
        if value is not False and not isinstance(value, str | Path | None):
            raise ValueError("a directory, or false for none; leave it out for the usual place")
        return value

    @model_validator(mode="after")
    def _splits_of_something(self) -> DataSettings:
        for name in ("root", "train_split", "validation_split"):
            if self.dataset is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is of a published data set, and none is named; give dataset, too")
        return self

    @model_validator(mode="after")
    def _views_fit(self) -> DataSettings:
        if self.views is None and self.store is not False:
            raise ValueError("views null is a new view at every visit, and none can be kept; set store false")
        if self.store is False and self.store_dtype is not None:
            raise ValueError("store_dtype is for features that are stored, and store is false; leave one of them out")
        if self.views == 1 and self.augment != "none":
            raise ValueError(f"augment {self.augment} makes random views; set views to how many of each picture")
        if self.views == 1 and self.mask_sounds:
            raise ValueError("mask_sounds makes random views; set views to how many of each sound")
        return self


class TrainingSettings(Settings):
    """How the trained parts are trained: AdamW, linear warm-up, cosine by step."""

    epochs: float | None = Field(default=None, gt=0)
    """Visits to every row; unset: as `min_epochs` and `min_steps` say, unless `steps` is given."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps, instead of `epochs`."""
    min_epochs: float = Field(default=3.0, gt=0)
    """Fewest visits to every row in a run that is given neither `epochs` nor `steps`."""
    min_steps: int = Field(default=200, ge=1)
    """Fewest optimizer steps of such a run: few rows are visited more often."""
    batch_size: int = Field(default=8, ge=1)
    """Rows a step, over all processes together."""
    accumulation: int = Field(default=1, ge=1)
    """Parts in which each process takes its share of a batch, one after the other: less memory, the same result."""
    group_by_length: bool = False
    """Batches of rows of like length, which saves padding. Where questions of one length ask for one thing, batches
    become one-sided and learning suffers."""
    learning_rate: float = Field(default=4e-3, gt=0, le=100)
    """Peak rate of connectors and block adapters."""
    prompt_learning_rate: float | None = Field(default=None, gt=0, le=100)
    """Peak rate of the soft prompt; unset: as `learning_rate`."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises to its peak."""
    warmup_start: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak rate at which the rise begins."""
    prompt_warmup_start: float | None = Field(default=None, ge=0, le=1)
    """The same share of the soft prompt's peak rate; unset: as `warmup_start`."""
    final_rate: float = Field(default=0.01, ge=0, le=1)
    """What is left of the peak rate at the end."""
    prompt_final_rate: float | None = Field(default=None, ge=0, le=1)
    """What is left of the soft prompt's; unset: as `final_rate`."""
    weight_decay: float = Field(default=3.0, ge=0, le=100)
    """AdamW's; a high one keeps a connector from learning few rows by heart."""
    decay_on: Literal["weights", "all"] = "weights"
    """What decays: the `weights` of connectors and block adapters, or `all`, biases and soft prompt as well, as in the
    original."""
    adam_epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null: none."""
    loss_on: Literal["answer", "all"] = "answer"
    """`answer`: answer and end token; `all`: the question as well, as the original did."""
    loss_scale: Literal["mean", "original"] = "mean"
    """`mean` over tokens, or the original 0.1 * sum / batch."""
    connector_init_scale: float = Field(default=0.1, gt=0, le=10)
    """Factor of the connectors' first values; the smaller they are, the sooner what is random in them has faded."""
    feature_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the elements of perceptual features that are left out at every visit, drawn anew each time."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread over the vocabulary."""
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between scores on the rows that `data.holdout` sets aside, else on `data.validation`; the best adapter is
    the one that stays. Unset: with `data.holdout` a tenth of the steps; without, it is scored once, at the end."""
    metric: str | None = None
    """What decides which is the best: a score such as `cider`; `loss`, a token, with the right input, or
    `perception_gain`, for which nothing is generated. Unset: `loss` with `data.holdout`; without, the first metric of
    each task, averaged."""
    patience: int | None = Field(default=None, ge=1)
    """Scores in a row without a better one after which the run is over; unset: it goes on to its end."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints, from which `--resume` goes on."""
    report_to: tuple[str, ...] = ()
    """Who is told of losses, rates and scores: accelerate's trackers, such as `tensorboard` or `wandb`."""
    cache_lower_layers: bool = False
    """Run the layers below the window once for every text and keep what they give in memory; of adapters that train
    nothing there, such as `epalm_lin`."""
    compile: bool = False
    """Compile the decoder layers. The first step takes half a minute more; on the CPU every other takes a tenth to a
    third less in float32 (`model.torch_dtype`), and longer in bfloat16."""
    start_from: tuple[str, ...] = ()
    """Adapters to start from, of the same backbones: one to go on with, or one for each modality."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of initial values, order and drawn answers."""

    def shares_of_peak(self, *, of_prompt: bool) -> tuple[float, float]:
        """Where the rate begins and where it ends, as shares of its peak: of the soft prompt, or of all else."""
        first, last = self.prompt_warmup_start, self.prompt_final_rate
        return (
            first if of_prompt and first is not None else self.warmup_start,
            last if of_prompt and last is not None else self.final_rate,
        )

    @field_validator("start_from", "report_to", mode="before")
    @classmethod
    def _wrap_single_name(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value else value

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> TrainingSettings:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        return self


class GenerationSettings(Settings):
    """How answers and captions are generated."""

    num_beams: int = Field(default=3, ge=1, le=1000)
    """Beams; 1 is greedy search."""
    max_new_tokens: int = Field(default=40, ge=1, le=100_000)
    """Longest answer or caption in tokens."""
    batch_size: int = Field(default=32, ge=1)
    """Rows generated at once; answers do not depend on it."""
    padding: Literal["left", "right"] = "left"
    """`left`: a batch answers as its members alone do; `right`: what is generated stands behind the padding of shorter
    rows, without a cache, as in the original."""
    suppress_special_tokens: bool = True
    """Never generate control tokens but those that end a text, nor what is no token at all, such as rows that pad the
    output embedding; ranked `answers` are weighed as they are."""
    answers: Path | None = None
    """Text file of all the answers there are, one a line: questions get the likeliest of them, and nothing is made up.
    It does not go with the adapter."""
    rank_top_k: int | None = Field(default=None, ge=1)
    """Of `answers`, weigh only the k with the likeliest first tokens; unset: as many as it takes to be sure."""

    @model_validator(mode="after")
    def _ranks_something(self) -> GenerationSettings:
        if self.rank_top_k is not None and self.answers is None:
            raise ValueError("rank_top_k is of ranked answers, and there are none; give answers, too")
        return self


class PublishedScores(Settings):
    """What others reported, to stand beside a run's own scores."""

    source: str = ""
    """Whose scores they are, and of which model."""
    scores: dict[str, float] = Field(default_factory=dict)
    """By metric, such as `cider`."""
