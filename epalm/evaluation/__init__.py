"""Answers from a trained adapter, and their scores."""

from epalm.evaluation.adapter_set import AdapterSet
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.perception_gain import PerceptionGain, measure_perception
from epalm.evaluation.scoring import Evaluation, Prediction, score_rows

__all__ = ["AdapterSet", "Answerer", "Evaluation", "PerceptionGain", "Prediction", "measure_perception", "score_rows"]
