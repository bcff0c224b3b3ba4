"""Scores: text in, numbers out. No torch here.

A new metric is one new file with one `@metric(...)` and one line below.
"""

from epalm.metrics import accuracy, bleu, cider, meteor, rouge, spice
from epalm.metrics.accuracy import exact_match, vqa_accuracy
from epalm.metrics.answer_normalisation import normalise_answer
from epalm.metrics.caption_metrics import CAPTION_METRICS, computable, describe_left_out
from epalm.metrics.caption_tokens import TOKENIZER, tokenize_caption
from epalm.metrics.registry import Metric, Reference, get_metric, metric_names
from epalm.metrics.split_scores import Score, SplitScores, score, score_split
from epalm.metrics.tokenizer_choice import JAVA_TOKENIZER, choose_tokenizer

__all__ = [
    "CAPTION_METRICS",
    "JAVA_TOKENIZER",
    "TOKENIZER",
    "Metric",
    "Reference",
    "Score",
    "SplitScores",
    "accuracy",
    "bleu",
    "choose_tokenizer",
    "cider",
    "computable",
    "describe_left_out",
    "exact_match",
    "get_metric",
    "meteor",
    "metric_names",
    "normalise_answer",
    "rouge",
    "score",
    "score_split",
    "spice",
    "tokenize_caption",
    "vqa_accuracy",
]
