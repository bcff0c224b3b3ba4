"""ClothoAQA (Lipping et al., EUSIPCO 2022): questions about Clotho's recordings, each answered by three people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, Published, register
from epalm.data.published.files import one_line, read_csv


def _official(split: str, path: Path) -> Iterator[Item]:
    """CSV of file_name, QuestionText, answer, confidence, a row for each person; rows of one question are one."""
    answers: dict[tuple[str, str], list[str]] = {}
    for row in read_csv(path):
        answer = one_line(row["answer"]) if row.get("answer") else ""
        listed = answers.setdefault((row["file_name"].strip(), one_line(row["QuestionText"])), [])
        if answer:
            listed.append(answer)
    for number, ((name, question), people) in enumerate(answers.items(), start=1):
        kind = "yes/no" if people and {answer.lower() for answer in people} <= {"yes", "no"} else "single word"
        yield Item((name,), question, tuple(people), None, str(number), {"answer_type": kind} if people else {})


CLOTHO_AQA = register(
    Published(
        name="clotho_aqa",
        title="ClothoAQA",
        modality="audio",
        layouts=(
            Layout("official", {split: (f"clotho_aqa_{split}.csv",) for split in ("train", "val", "test")}, _official),
        ),
        home="https://zenodo.org/records/6473207",
        media_home="https://zenodo.org/records/6473207 (audio_files)",
        results="vqa",
    )
)
