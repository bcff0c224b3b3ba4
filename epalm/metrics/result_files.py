"""Predictions and references in the files that evaluation servers and data sets use.

Predictions: lists of COCO results `{"image_id", "caption"}`, VQA results `{"question_id", "answer"}`, GQA results
`{"questionId", "prediction"}`, VizWiz results `{"image", "answer"}`, the mapping `{id: text}` that VATEX takes, or the
JSON Lines that `epalm evaluate` writes. References: COCO captions, VQA annotations, GQA questions, VizWiz answers, a
mapping `{id: texts}`, or JSON Lines with captions or answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from epalm.errors import ConfigError, DataError
from epalm.metrics.registry import Reference

Kind = Literal["captions", "answers"]
RESULT_FORMATS: Mapping[str, tuple[str, str] | None] = {
    "coco": ("image_id", "caption"),
    "vqa": ("question_id", "answer"),
    "gqa": ("questionId", "prediction"),
    "vizwiz": ("image", "answer"),
    "vatex": None,
}
"""Fields of id and text in each entry of a list; None: one object, from ids to texts."""
_NUMBERED = ("coco", "vqa")
_NUMBER = re.compile("0|[1-9][0-9]*")
"""What reads the same once it was a number; 007 does not."""
_PREDICTED = (*(fields for fields in RESULT_FORMATS.values() if fields), ("id", "prediction"))
_REFERENCE_FIELDS: Mapping[str, Kind | None] = {
    "captions": "captions",
    "caption": "captions",
    "answers": "answers",
    "answer": "answers",
    "references": None,
}


@dataclass
class References:
    """What predictions are held against, by id."""

    texts: dict[str, Reference] = field(default_factory=dict)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of the rows that have some."""
    kind: Kind | None = None
    """None where the file does not tell."""
    passed_over: set[str] = field(default_factory=set)
    """Ids that have captions, none of which counts; VizWiz's evaluator scores no prediction for them."""

    def add(self, row: str, texts: Any, groups: dict[str, str]) -> None:
        """Take in all that is said of one id.

        Raises:
            RepeatedError: something else was said of it before.
        """
        if row in self.texts and (self.texts[row], self.groups.get(row)) != (texts, groups):
            raise RepeatedError(row)
        self.texts[row], self.groups[row] = texts, groups


class RepeatedError(Exception):
    """What comes twice and differs. Its message is the id or the name."""


def format_results(name: str, predictions: Iterable[tuple[str, str]]) -> str:
    """Predictions, (id, text), as the evaluation server of that format takes them.

    Raises:
        ConfigError: there is no such format.
    """
    if name not in RESULT_FORMATS:
        raise ConfigError(f"unknown format '{name}' of results; choose from {', '.join(RESULT_FORMATS)}")
    fields = RESULT_FORMATS[name]
    if fields is None:
        return json.dumps(dict(predictions), ensure_ascii=False)
    # The servers of COCO and VQA tell 42 from "42".
    numbered = name in _NUMBERED
    listed = [
        {fields[0]: int(row) if numbered and _NUMBER.fullmatch(row) else row, fields[1]: text}
        for row, text in predictions
    ]
    return json.dumps(listed, ensure_ascii=False)


def counts_as_caption(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation of VizWiz-Captions is neither ready-made ("quality issues ...") nor rejected."""
    return not annotation.get("is_precanned") and not annotation.get("is_rejected")


def gqa_groups(question: Mapping[str, Any]) -> dict[str, str]:
    """The types of a GQA question that its accuracy is told for apart; `detailed` has more than a hundred."""
    return {kind: name for kind, name in (question.get("types") or {}).items() if name and kind != "detailed"}


def read_predictions(path: Path) -> dict[str, str]:
    """Id -> text, in any of the formats above.

    Raises:
        DataError: the file cannot be read, has no predictions, or has two for one id.
    """
    content = _load(path)
    if isinstance(content, dict):
        pairs = list(content.items())
    else:
        pairs = [_prediction(path, number, entry) for number, entry in content]
    predictions: dict[str, str] = {}
    for name, text in pairs:
        if not isinstance(text, str):
            raise DataError(f"{path}: the prediction for {name} is {type(text).__name__}, not text")
        if str(name) in predictions:
            raise DataError(f"{path}: has two predictions for {name}; keep one")
        predictions[str(name)] = text
    if not predictions:
        raise DataError(f"{path}: there are no predictions in it")
    return predictions


def read_references(path: Path) -> References:
    """Everything to be predicted, in any of the formats above.

    Raises:
        DataError: the file cannot be read, has no references, has two that differ for one id, or one is neither texts
            nor answers with their scores.
    """
    content = _load(path)
    try:
        if isinstance(content, dict) and "annotations" in content:
            found = _annotations(content)
        elif isinstance(content, dict):
            found = _mapping(content)
        else:
            found = _entries(content)
    except RepeatedError as error:
        raise DataError(f"{path}: has two references for {error} that differ; keep one, or join their texts") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is not laid out like any known file of references ({error!r})") from error
    if not found.texts:
        raise DataError(f"{path}: there are no references in it")
    for row, reference in found.texts.items():
        problem = _problem(reference)
        if problem is not None:
            raise DataError(f"{path}: the reference for {row} {problem}")
        if not all(isinstance(name, str) for name in found.groups.get(row, {}).values()):
            raise DataError(f"{path}: the groups of {row} are not all texts")
    return found


def _problem(reference: Any) -> str | None:
    """What is wrong with the references of one row, if anything is."""
    if isinstance(reference, dict):
        if isinstance(reference.get("question"), str):
            return "is a question without an answer; what is right in a test split is not in its file"
        unfit = next((name for name, score in reference.items() if not _is_score(score)), None)
        if unfit is not None:
            return f"gives '{unfit}' no score from 0 to 1; give a list of texts, or answers with their scores"
    elif not isinstance(reference, list):
        return f"is {type(reference).__name__}, neither text nor a list of texts"
    elif not all(isinstance(text, str) for text in reference):
        unfit = next(text for text in reference if not isinstance(text, str))
        return f"holds {type(unfit).__name__} where text should be"
    return None if reference else "is empty; give at least one text, or leave it out"


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _annotations(content: Mapping[str, Any]) -> References:
    """COCO's captions or VQA's answers."""
    found = References()
    domains = {str(image["id"]): image["domain"] for image in content.get("images", ()) if "domain" in image}
    for entry in content["annotations"]:
        if "caption" in entry:
            found.kind = "captions"
            row = str(entry["image_id"])
            if not counts_as_caption(entry):
                found.passed_over.add(row)
                continue
            listed = found.texts.setdefault(row, [])
            assert isinstance(listed, list)
            listed.append(entry["caption"])
            if row in domains:
                found.groups[row] = {"domain": domains[row]}
        else:
            found.kind = "answers"
            row = str(entry["question_id"])
            found.add(row, [answer["answer"] for answer in entry["answers"]], _types(entry))
    found.passed_over -= found.texts.keys()
    return found


def _mapping(content: Mapping[str, Any]) -> References:
    """GQA's questions, or ids with their texts."""
    found = References()
    for row, value in content.items():
        if isinstance(value, dict) and "answer" in value and "question" in value:
            found.kind = "answers"
            found.texts[row] = [value["answer"]]
            found.groups[row] = gqa_groups(value)
        else:
            found.texts[row] = [value] if isinstance(value, str) else value
    return found


def _entries(content: Iterable[tuple[int, Mapping[str, Any]]]) -> References:
    """VizWiz's answers, or JSON Lines of this package."""
    found = References()
    for number, entry in content:
        name = next((name for name in _REFERENCE_FIELDS if name in entry), None)
        if name is None:
            continue
        value = entry[name]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = [answer["answer"] for answer in value]
        row = str(entry.get("id", entry["image"] if "answer_type" in entry else number))
        groups = {**_types(entry), **entry.get("groups", {})}
        found.add(row, [value] if isinstance(value, str) else value, groups)
        found.kind = found.kind or _REFERENCE_FIELDS[name] or ("answers" if "question" in entry else "captions")
    return found


def _types(entry: Mapping[str, Any]) -> dict[str, str]:
    return {kind: entry[kind] for kind in ("answer_type", "question_type") if entry.get(kind)}


def _load(path: Path) -> Any:
    """An object, or the entries of a list by their number; those of JSON Lines go by their line, as in a manifest."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text") from None
    try:
        content = _parsed(path, text)
    except json.JSONDecodeError as whole:
        try:
            return [(number, _parsed(path, line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        except json.JSONDecodeError:
            raise DataError(f"{path}: is neither JSON nor JSON Lines ({whole})") from None
    if path.suffix == ".jsonl" and isinstance(content, dict):  # one line
        return [(text[: text.index("{")].count("\n") + 1, content)]
    if not isinstance(content, list | dict):
        raise DataError(f"{path}: holds neither a list nor an object")
    return content if isinstance(content, dict) else list(enumerate(content, start=1))


def _parsed(path: Path, text: str) -> Any:
    """What JSON says.

    Raises:
        DataError: an object in it says two things under one name.
        json.JSONDecodeError: it is no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_unrepeated)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nested without end
        raise DataError(f"{path}: is JSON that cannot be read here ({error})") from None
    except RepeatedError as error:
        raise DataError(f"{path}: an object in it names {error} twice, with different values; keep one") from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which a name that comes twice must say the same."""
    content = dict(pairs)
    if len(content) < len(pairs):
        for name, value in pairs:
            if value != content[name]:
                raise RepeatedError(name)
    return content


def _prediction(path: Path, number: int, entry: Any) -> tuple[Any, Any]:
    fields = next(
        (pair for pair in _PREDICTED if isinstance(entry, dict) and pair[0] in entry and pair[1] in entry), None
    )
    if fields is None:
        known = "; ".join(f"'{row}' with '{text}'" for row, text in _PREDICTED)
        raise DataError(f"{path}, entry {number}: is no prediction; the fields are {known}")
    return entry[fields[0]], entry[fields[1]]
