"""Which tokeniser captions are cut with: Stanford's own through Java, or the one of this package without.

The published scores are those of Stanford's PTBTokenizer (CoreNLP 3.4.1). It is used where it is there, and the name of
the one that was used belongs beside every score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from epalm.errors import ConfigError
from epalm.metrics.caption_tokens import TOKENIZER, tokenize_caption
from epalm.metrics.java import run_java, why_not

JAVA_TOKENIZER = "PTBTokenizer (Stanford CoreNLP 3.4.1)"
TOKENIZERS = ("auto", "java", "python")
"""What may be asked for; `auto`: Java where it is there."""

# coco-caption's list; its brackets are upper-case, which lower-cased tokens never are, so brackets stay.
_LEFT_OUT = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})
_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_COMMAND = (
    "-cp",
    "stanford-corenlp-3.4.1.jar",
    "edu.stanford.nlp.process.PTBTokenizer",
    "-preserveLines",
    "-lowerCase",
)


@dataclass(frozen=True)
class CaptionTokenizer:
    """A way to cut captions into words."""

    name: str
    """To report beside a score."""
    tokenize: Callable[[Sequence[str]], list[list[str]]]
    """Captions -> the tokens of each."""


def choose_tokenizer(choice: str = "auto") -> CaptionTokenizer:
    """The tokeniser of that kind, one of `TOKENIZERS`.

    Raises:
        ConfigError: there is no such kind; that Java is not there is said when captions are tokenised.
    """
    if choice not in TOKENIZERS:
        raise ConfigError(f"unknown tokeniser '{choice}'; choose from {', '.join(TOKENIZERS)}")
    if choice == "java" or (choice == "auto" and why_not(_JAR) is None):
        return CaptionTokenizer(JAVA_TOKENIZER, tokenize_with_java)
    return CaptionTokenizer(TOKENIZER, lambda captions: [tokenize_caption(caption) for caption in captions])


def tokenize_with_java(captions: Sequence[str]) -> list[list[str]]:
    """Lower-case tokens of each caption by Stanford's PTBTokenizer, without coco-caption's list of punctuation.

    Raises:
        ConfigError: Java or the tokeniser is missing, or fails.
    """
    distinct = list(dict.fromkeys(captions))
    # One caption a line: whatever else Java may take for the end of a line becomes a space.
    lines = "".join(" ".join(caption.split()) + "\n" for caption in distinct)
    output = run_java("PTBTokenizer", ("-Dfile.encoding=UTF-8", *_COMMAND), (_JAR,), lines).split("\n")
    if len(output) != len(distinct) + 1:
        raise RuntimeError(f"PTBTokenizer gave {len(output) - 1} lines for {len(distinct)} captions")
    tokens = {
        caption: [token for token in line.split() if token not in _LEFT_OUT]
        for caption, line in zip(distinct, output, strict=False)
    }
    return [tokens[caption] for caption in captions]
