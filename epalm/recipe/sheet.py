"""A recipe at a glance, from its file alone: what is trained on what, at which rates, and what others reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epalm.recipe.recipe import Recipe, list_recipes, read_recipe


@dataclass(frozen=True)
class RecipeSheet:
    """What there is to know of a recipe before it is run."""

    name: str
    what: str
    """One line."""
    recipe: Recipe

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        recipe = self.recipe
        return {
            "what": self.what,
            "language_model": recipe.model.language_model,
            "encoders": dict(recipe.model.encoders),
            **({} if recipe.model.frames is None else {"frames": recipe.model.frames}),
            "adapter": recipe.adapter.model_dump(include={"preset", "start", "end", "levels"}),
            "data": recipe.data.model_dump(include={"dataset", "train_split", "validation_split"}),
            "rates": self._rates(),
            "warmup": recipe.training.warmup,
            "epochs": recipe.training.epochs,
            "batch_size": recipe.training.batch_size,
            "num_beams": recipe.generation.num_beams,
            "max_new_tokens": recipe.generation.max_new_tokens,
            "metrics": list(recipe.published.scores),
            "published": recipe.published.model_dump(),
        }

    def as_text(self) -> str:
        """A line for each thing."""
        recipe, published = self.recipe, self.recipe.published
        model, adapter, data, training = recipe.model, recipe.adapter, recipe.data, recipe.training
        beams = recipe.generation.num_beams
        frames = "" if model.frames is None else f", {model.frames} frames"
        rates = (
            f"{part} {rate['first']:g}, {rate['peak']:g}, {rate['last']:g}" for part, rate in self._rates().items()
        )
        lines = [
            ("language model", model.language_model),
            *((f"{modality} encoder", f"{source}{frames}") for modality, source in model.encoders.items()),
            ("adapter", f"{adapter.preset}: {adapter.levels} levels into layers {adapter.start} to {adapter.end}"),
            ("training data", "your own rows" if data.dataset is None else f"{data.dataset} {data.train_split}"),
            *([] if data.dataset is None else [("scored on", f"{data.dataset} {data.validation_split}")]),
            ("rates", f"at first, highest, last: {'; '.join(rates)}"),
            ("length", f"{training.epochs:g} epochs, {training.batch_size} rows a step over all processes"),
            ("generated", f"{beams} beam{'s' if beams > 1 else ''}, {recipe.generation.max_new_tokens} tokens at most"),
        ]
        if published.scores:
            scores = ", ".join(f"{metric} {score:.2f}" for metric, score in published.scores.items())
            lines += [("published", scores), ("", published.source)]
        return "\n".join([f"{self.name}: {self.what}", *(f"{name:<15} {value}" for name, value in lines)])

    def _rates(self) -> dict[str, dict[str, float]]:
        """Of connector and soft prompt: at first, at the peak, at last."""
        training = self.recipe.training
        peaks = {"connector": training.learning_rate}
        if self.recipe.adapter.prompt != "none":
            peaks["prompt"] = training.prompt_learning_rate or training.learning_rate
        rates = {}
        for part, peak in peaks.items():
            first, last = training.shares_of_peak(of_prompt=part == "prompt")
            rates[part] = {"first": _rounded(peak * first), "peak": peak, "last": _rounded(peak * last)}
        return rates


def package_recipes() -> dict[str, RecipeSheet]:
    """Every recipe that comes with the package, by name."""
    return {name: RecipeSheet(name, what, read_recipe(name)) for name, what in list_recipes().items()}


def _rounded(rate: float) -> float:
    """Without the last digits of a product."""
    return float(f"{rate:.6g}")
