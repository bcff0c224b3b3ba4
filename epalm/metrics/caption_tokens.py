"""Caption tokenisation in the manner of the Penn Treebank, without Java.

Captioning scores in the literature are computed on tokens of Stanford's PTBTokenizer (CoreNLP 3.4.1), lower-cased, with
a list of punctuation tokens left out, as coco-caption does. This is a small scanner for the same conventions: clitics
are split off (`do n't`, `man 's`), hyphenated words, numbers and abbreviations stay whole, brackets become `-lrb-` and
the like (which coco-caption's list, being upper-case, does not leave out). Accents and vowel signs that are signs of
their own belong to their word, in the scripts for which they do so there; what cannot be seen, and emoji, are left out.
On captions as people write them the two agree; on text made to be awkward (emoticons, telephone numbers, file names)
they may differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

TOKENIZER = "ptb-like (epalm)"
"""Name to report beside a score, because another tokeniser gives other scores."""

# Tokens that coco-caption leaves out; runs of dashes and of dots have become one sign when this is asked.
_LEFT_OUT = frozenset({"'", "''", "`", "``", '"', ".", "?", "!", ",", ":", ";", "-"})

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
# Typographic signs become their ASCII kin before scanning, pounds and euros the signs that the Treebank has for them.
_ASCII = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "–": " -- ",
        "—": " -- ",
        "…": " ... ",
        "½": " 1/2 ",
        "¼": " 1/4 ",
        "¾": " 3/4 ",
    }
    | {"£": "#", "€": "$", "\u00ad": ""}
)
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " "}
_ENTITY = re.compile("|".join(_ENTITIES))

# Words that keep their period wherever they stand, as the reference tokeniser has them.
_ABBREVIATIONS = """
    adj adm adv al ala apr assn assoc atty aug ave bldg blvd bros calif capt cf cie cmdr co col colo comdr conn corp
    cos cpl ct dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov hon inc ind insp intl invt jan
    jos jr jul jun kan ky lt ltd maj mar md messrs mich minn mme mo mon mr mrs ms mt natl nev nov oct penn pfc plc
    pres prof pte pty pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel thu thurs
    tue tues univ va vs vt wed wis wisc wm
"""
# Words that keep it only before a number ("no. 5").
_BEFORE_NUMBER = "no nos fig figs pp ca art"
# Written as one word, counted as two; the first always has three letters.
_SPLIT_WORDS = "cannot gonna wanna gotta gimme lemme"

# Signs that stand on or beside the letter before them, from Latin accents to Lao, and are no letters to Python; those
# of Kannada and Sinhala are none to the reference tokeniser either.
_MARKS = "".join(
    chr(code)
    for code in (*range(0x300, 0xC80), *range(0xD00, 0xD80), *range(0xE00, 0xF00))
    if unicodedata.category(chr(code)) in ("Mn", "Mc")
)
_CHAIN = r"\w+(?:[-/]\w+|\.[a-z]\w*|(?<=[A-Z])&(?-i:[A-Z]+))*"
_NOT_INSIDE_WORD = r"(?<![\w-])"


def _scanner(words: str) -> re.Pattern[str]:
    """What finds the tokens of a text; `words` is the pattern of ordinary ones."""
    return re.compile(
        rf"""
      (?P<space>\s+)
    | (?P<tag></?[a-z][^<>]*>)
    | (?P<web>(?:https?://|www\.)\S+|[\w.+-]+@\w[\w-]*(?:\.\w+)+)
    | (?P<split>{_NOT_INSIDE_WORD}(?:{"|".join(_SPLIT_WORDS.split())})(?![\w-]|'\w))
    | (?P<abbreviation>{_NOT_INSIDE_WORD}(?:
          (?:ph\.d|[a-z](?:\.[a-z])*|{"|".join(_ABBREVIATIONS.split())})\.(?![a-z])
        | (?:{"|".join(_BEFORE_NUMBER.split())})\.(?=\s?\d)
      ))
    | (?P<clitic>'(?:s|m|d|re|ve|ll)(?!\w)|n't(?!\w))
    | (?P<clipped>(?<!\w)'(?:(?:\d\ds?|em|cause|n'?)(?!\w)|t(?=(?:is|was)(?!\w)))|(?<=\w)'n')
    | (?P<number>\d\d?:\d\d(?=[ap]m(?!\w))|[+-]?(?:\d+(?:[.,:/-]\d+)*|\.\d+)(?!\w|[-/]\w))
    | (?P<word>
          (?:[do]'(?!(?:s|m|d|re|ve|ll)(?!\w))[a-z]+|ma'am|y'(?=all))
        | \w+?(?=n't(?!\w))
        | {words}
      )
    | (?P<run>\.{{2,}}|--+|[?!]+|\*+)
    | (?P<other>.)
    """,
        re.VERBOSE | re.IGNORECASE,
    )


_SCANNER = _scanner(_CHAIN)
_ANY_MARK = re.compile(f"[{_MARKS}]")
# Words with marks are not joined by hyphens; looking for them takes time that texts without need not spend.
_MARKED_SCANNER = _scanner(rf"(?!{_CHAIN}[{_MARKS}]){_CHAIN} | [\w{_MARKS}]+")


def tokenize_caption(text: str) -> list[str]:
    """Lower-case tokens of one caption, punctuation left out; the empty list where nothing is left."""
    text = _ENTITY.sub(lambda entity: _ENTITIES[entity.group()], text).translate(_ASCII)
    return [token for token in _scan(text) if token not in _LEFT_OUT]


def _scan(text: str) -> Iterator[str]:
    """All tokens, punctuation included, lower-cased."""
    scanner = _MARKED_SCANNER if not text.isascii() and _ANY_MARK.search(text) else _SCANNER
    for match in scanner.finditer(text):
        token = match.group().lower()
        if match.lastgroup == "space" or (match.lastgroup == "other" and _is_left_out(token)):
            continue
        if match.lastgroup == "split":
            yield from (token[:3], token[3:])
        elif token.startswith(("..", "--")):
            yield token[0]
        else:
            yield _BRACKETS.get(token, token)


def _is_left_out(sign: str) -> bool:
    """Whether the reference tokeniser leaves a sign out that is in no word: it cannot be seen, or is an emoji."""
    unseen = not sign.isprintable() or unicodedata.category(sign).startswith("M")
    return unseen or sign == "\ufffd" or ord(sign) > 0xFFFF
