"""The official VQA answer normalisation: how two answers that mean the same are made to read the same.

The rules are those published with VQA (Antol et al., ICCV 2015) and kept by its evaluation server: punctuation, then
case, number words, articles and contractions, in this order. Oddities of the published rules are kept, because a score
that is compared with the literature must be the literature's.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}

# Contractions whose only mapped misspelling has lost every apostrophe.
_BARE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's
    isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've
    shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're
    there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd
    where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're
    you've
"""
# Contractions with two apostrophes: mapped from the spellings that have lost one of them.
_DOUBLE = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've
"""


def _contraction_map() -> dict[str, str]:
    """Every misspelt contraction of the published table and its right spelling."""
    table = {word.replace("'", ""): word for word in _BARE.split()}
    for word in _DOUBLE.split():
        head, middle, tail = word.split("'")
        table[f"{head}{middle}'{tail}"] = table[f"{head}'{middle}{tail}"] = word
    # The irregular ones; the first entry is a slip of the published table that scores depend on.
    table["somebody'd"] = "somebodyd"
    table |= dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at")
    table |= dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've")
    return table


_CONTRACTIONS = _contraction_map()


def clean_answer(text: str) -> str:
    """`text` on one line without outer spaces: what happens to every answer, whether or not it is normalised."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 16)  # human answers are few and come again and again
def normalise_answer(text: str) -> str:
    """`text` after the official punctuation, case, number-word, article and contraction rules."""
    words = (_NUMBER_WORDS.get(word, word) for word in _strip_punctuation(clean_answer(text)).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _strip_punctuation(text: str) -> str:
    """Drop marks that stand beside a space, part the words that the others join, drop periods outside numbers.

    A comma between digits anywhere in the answer turns the parting off for every mark, as published.
    """
    number_with_comma = _DIGIT_COMMA.search(text) is not None
    stripped = text
    for mark in _PUNCTUATION:
        if mark in stripped:
            dropped = number_with_comma or mark + " " in text or " " + mark in text
            stripped = stripped.replace(mark, "" if dropped else " ")
    # The published rule reaches the first 32 periods only.
    return _PERIOD.sub("", stripped, count=32)
