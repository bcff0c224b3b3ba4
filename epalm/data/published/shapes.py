"""Layouts that several data sets share: COCO's captions, Karpathy's splits, VQA's questions, rows with soft scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from epalm.data.published.base import Item, LeftOut
from epalm.data.published.files import captions, one_line, read_json, stem

Names = Callable[[Any], tuple[str, ...]]
"""What an annotation says of its picture -> names that the file may have."""

NO_CAPTION = "has no caption that is left"
NO_ANSWER = "has no answer with a score"
NOTHING_RIGHT = "(no answer with a score)"
"""What stands where an answer would, with a score of 0, in a row to be scored for which nothing is right."""


def read_karpathy(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """`dataset_coco.json` and its like (Karpathy and Fei-Fei, CVPR 2015); `restval` counts as train.

    A row goes by COCO's own id of the picture where there is one, else by the file's name.
    """
    members = {"train": ("train", "restval")}.get(split, (split,))
    for image in read_json(path)["images"]:
        if image["split"] in members:
            texts = captions(sentence["raw"] for sentence in image["sentences"])
            name = image["filename"]
            row = str(image["cocoid"]) if "cocoid" in image else stem(name)
            # The pictures of COCO 2014 and 2017 are the same, those of 2017 under shorter names.
            names = (name, f"{image['cocoid']:012d}.jpg") if "cocoid" in image else (name,)
            yield Item(names, targets=texts, id=row) if texts else LeftOut(NO_CAPTION)


def read_coco_captions(
    path: Path, *, names: Names = lambda image: (image["file_name"],), keep: Callable[[Any], bool] = lambda _: True
) -> Iterator[Item | LeftOut]:
    """COCO's own layout: images, and annotations with one caption each; a test split has images alone.

    Args:
        path: the file.
        names: an image -> names that its file may have.
        keep: whether an annotation is a caption to learn from and be scored by.
    """
    content = read_json(path)
    texts: dict[Any, list[str]] = {}
    for annotation in content.get("annotations", ()):
        listed = texts.setdefault(annotation["image_id"], [])
        if keep(annotation):
            listed.append(annotation["caption"])
    for image in content["images"]:
        targets = captions(texts.get(image["id"], ()))
        if not targets and texts:
            yield LeftOut(NO_CAPTION)
            continue
        groups = {"domain": image["domain"]} if "domain" in image else {}
        yield Item(names(image), targets=targets, id=str(image["id"]), groups=groups)


def read_vqa(questions: Path, annotations: Path | None, names: Names) -> Iterator[Item]:
    """VQA's own layout: questions in one file, the answers of ten people to each in another; test has no answers.

    Args:
        questions: the file.
        annotations: the other file, or None in a test split.
        names: an image id -> names that its file may have.
    """
    answered = {} if annotations is None else answers_by_question(annotations)
    for question in read_json(questions)["questions"]:
        row = str(question["question_id"])
        targets, groups = ((), {}) if annotations is None else answered[row]
        yield Item(names(question["image_id"]), one_line(question["question"]), targets, None, row, groups)


def answers_by_question(annotations: Path) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Question id -> the answers people gave, repeated as they repeat, and the groups it is scored under."""
    return {
        str(entry["question_id"]): (people(entry["answers"]), answer_groups(entry))
        for entry in read_json(annotations)["annotations"]
    }


def people(answers: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What each person answered; commas and repeats stay, because the score counts people."""
    return tuple(one_line(answer["answer"]) for answer in answers)


def answer_groups(entry: Mapping[str, Any]) -> dict[str, str]:
    """The kinds of question that accuracy is told for apart."""
    return {kind: entry[kind] for kind in ("answer_type", "question_type") if entry.get(kind)}


def labelled_item(row: Mapping[str, Any], names: tuple[str, ...], *, soft: bool, trained: bool) -> Item | LeftOut:
    """A row of the kind that LXMERT made: a question under `sent`, answers with their scores under `label`.

    A label is empty where no answer was frequent enough for the vocabulary. Such rows teach nothing, but count as wrong
    in the scores of those who made them, so that leaving them out would raise an accuracy.

    Args:
        row: as it was read.
        names: that its media file may have.
        soft: keep the scores; where there is but one right answer, its score of 1 says nothing.
        trained: the split is trained on, and not scored.
    """
    question = one_line(row["sent"] if "sent" in row else row["question"])
    if "label" not in row:  # a test split
        return Item(names, question, id=str(row["question_id"]), groups=answer_groups(row))
    scored = {one_line(answer): float(score) for answer, score in row["label"].items() if score > 0 and answer.strip()}
    if not scored and trained:
        return LeftOut(NO_ANSWER)
    scored = scored or {NOTHING_RIGHT: 0.0}
    weights = tuple(scored.values()) if soft or not any(scored.values()) else None
    return Item(names, question, tuple(scored), weights, str(row["question_id"]), answer_groups(row))
