"""Answers from a trained adapter, and their scores."""

from epalm.evaluation.adapter_set import AdapterSet
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.scoring import Evaluation, Prediction, score_rows

__all__ = ["AdapterSet", "Answerer", "Evaluation", "Prediction", "score_rows"]
