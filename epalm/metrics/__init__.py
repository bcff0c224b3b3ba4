"""Scores: text in, numbers out. No torch here.

A new metric is one new file with one `@metric(...)` and one line below.
"""

from epalm.metrics import accuracy, bleu, cider, rouge
from epalm.metrics.accuracy import exact_match, vqa_accuracy
from epalm.metrics.registry import Metric, Reference, get_metric, metric_names, score
from epalm.metrics.text import normalise_answer
from epalm.metrics.tokens import TOKENIZER, tokenize_caption

__all__ = [
    "TOKENIZER",
    "Metric",
    "Reference",
    "accuracy",
    "bleu",
    "cider",
    "exact_match",
    "get_metric",
    "metric_names",
    "normalise_answer",
    "rouge",
    "score",
    "tokenize_caption",
    "vqa_accuracy",
]
