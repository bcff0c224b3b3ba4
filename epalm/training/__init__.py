"""Training runs."""

from epalm.recipe import Recipe, read_recipe
from epalm.training.describe import describe_source
from epalm.training.loop import TrainingLog, train
from epalm.training.run import RunResult, run_recipe

__all__ = ["Recipe", "RunResult", "TrainingLog", "describe_source", "read_recipe", "run_recipe", "train"]
