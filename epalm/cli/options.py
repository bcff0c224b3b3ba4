"""Options that several commands have, and what `--help` says below them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Adapter = Annotated[str, typer.Argument(metavar="ADAPTER", help="Directory or hub id of a trained adapter.")]
Others = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="OTHER",
        help="Another adapter on the same language model, for files of another kind; may be repeated.",
    ),
]
Sounds = Annotated[
    list[Path] | None,
    typer.Option(
        "--audio",
        metavar="SOUND",
        help="Sound that goes with FILE, for an adapter of both; a film's own sound track is the film itself. With "
        "several files once for each, in their order.",
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON, too.")]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep no features: perceive every file anew at every visit.")]
NoJava = Annotated[
    bool,
    typer.Option("--no-java", help="Start no Java: leave METEOR, SPICE and SPIDEr out, and cut captions without it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SETTINGS = """

Every setting has an option by its dotted name, such as --training.steps 500 or --model.language_model
facebook/opt-125m; `epalm train --settings` lists them all."""
ANSWER_SETTINGS = """

What the adapter was trained with is kept with it. It can be changed by the dotted names that `epalm train --settings`
lists: those of model, text and generation, such as --model.device cpu or --generation.num_beams 1, and
those of data that say where features come from and how: data.features, data.store, data.store_dtype,
data.perception_batch and data.evaluation_frames."""
TRAIN_HELP = """\b
epalm train toy_image --data.train rows.jsonl --output my-adapter
epalm train --recipe coco_base --data.root /data/coco --output my-adapter

Rows are JSON objects, one a line; files are named relative to the manifest:

\b
{"image": "a.jpg", "caption": "a dog on the grass"}
{"image": "a.jpg", "question": "what is it?", "answer": "a dog"}"""
EVALUATE_HELP = """\b
epalm evaluate my-adapter --data held-out.jsonl --json scores.json
epalm evaluate my-adapter --data held-out.jsonl --output result
epalm evaluate my-adapter --data.dataset coco_captions --data.root /data/coco --data.validation_split test"""
CAPTION_HELP = """\b
epalm caption my-adapter photo.jpg
epalm caption image-adapter photo.jpg bird.wav --adapter audio-adapter
epalm caption film-adapter film.mp4 --audio film.mp4"""
ASK_HELP = """\b
epalm ask my-adapter photo.jpg "What colour is the car?"
epalm ask image-adapter bird.wav "Which bird is it?" --adapter audio-adapter
epalm ask both-adapter photo.jpg "What goes on?" --audio sound.wav"""
KINDS_HELP = """

With several adapters each file goes to the one that perceives its kind, which the file's name tells; a film is heard
where no adapter watches."""
INFO_HELP = """\b
epalm info my-adapter
epalm info toy_image --adapter.preset epalm"""
RECIPES_HELP = """\b
epalm recipes coco_base
epalm train coco_base --data.root /data/coco --output my-adapter

Of the original's and of a later study's: docs/original.md says in what they differ on purpose, and how to undo it."""
CONVERT_HELP = """\b
epalm convert original.pth --output my-adapter
  --model.language_model facebook/opt-2.7b --model.encoders.image google/vit-base-patch16-224

The checkpoint names neither backbone; where it does not tell the window, give --adapter.start and --adapter.end. The
adapter gets the settings that the original had."""
