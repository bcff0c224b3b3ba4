"""What is trained and where it enters the language model: the settings that an adapter keeps.

Letters as everywhere in this project: B batch, T text tokens, P soft-prompt tokens, K perceptual levels, S slots per
level, E encoder width, D language-model width, W word-embedding width, L language-model layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from epalm.settings.base import Settings
from epalm.settings.nearest import nearest


class AdapterConfig(Settings):
    """What is trained and where it enters the frozen language model (eP-ALM section 3)."""

    preset: str = "epalm_pt"
    """The published variant that fills in what is not said here: of eP-ALM epalm_lin, epalm_pt, epalm, epalm_pt_L,
    epalm_ada; of its rivals promptfuse, limber_1, limber_all, mapl, depalm_qp_l0, depalm_qp_inner, depalm_r_avgpool,
    depalm_r_linear, depalm_r_rand, cross_attention, deepstack, llama_adapter, memvp; and text_only."""
    mechanism: str = "slot"
    """How perception enters the language model: `slot`, which is eP-ALM's, or a rival's, by its preset's name; all
    trained of a rival that is neither soft prompt nor block adapter is called connector."""
    connector: Literal["shared", "per_level", "none"] = "shared"
    """Of the slot, `shared`: one linear E -> D for all levels; `per_level`: one for each; `none`: no perception at
    all."""
    levels: int | None = Field(default=None, ge=1)
    """K, the encoder's last layers tapped; unset, of the slot: min(6, end - start, encoder layers), of a rival: as
    published."""
    start: int | None = Field(default=None, ge=0)
    """First LM layer that receives perception; unset, of the slot: round(19 L / 32)."""
    end: int | None = Field(default=None, ge=1)
    """First LM layer after the window; unset, of the slot: L - 1."""
    prompt: Literal["none", "plain", "mlp"] = "plain"
    """`plain`: P free vectors; `mlp`: P embeddings through Linear-Tanh-Linear; `none`: no soft prompt."""
    prompt_tokens: int = Field(default=1, ge=1, le=100_000)
    """P, the soft-prompt tokens (not used with prompt `none`)."""
    mask: Literal["causal", "legacy"] = "causal"
    """Of the slot, `causal`: its row sees only itself; `legacy`: it sees everything, as in the original checkpoints."""
    block_adapters: Literal["none", "mlp", "attention", "both"] = "none"
    """Bottleneck adapters in every LM block (`epalm_ada`): after the MLP, after the attention, or both."""
    bottleneck: int = Field(default=8, ge=1)
    """f: block adapters are D -> D/f -> D."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, values: Any) -> Any:
        """A preset fills in what is not said."""
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset", "epalm_pt")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(f"unknown preset '{preset}'{nearest(str(preset), PRESETS)}")
        return {**PRESETS[preset], **values}

    @model_validator(mode="after")
    def _window_is_ordered(self) -> AdapterConfig:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end ({self.end}) must be greater than start ({self.start})")
        return self

    @model_validator(mode="after")
    def _settings_of_the_slot(self) -> AdapterConfig:
        if self.mechanism != "slot":
            for name, default in (("connector", "shared"), ("mask", "causal")):
                if getattr(self, name) != default:
                    raise ValueError(f"{name}: is a setting of the slot; with mechanism {self.mechanism} leave it out")
        return self

    @classmethod
    def from_preset(cls, preset: str = "epalm_pt", **overrides: Any) -> AdapterConfig:
        """The named preset with some settings changed.

        Raises:
            ConfigError: the preset or a setting is unknown; the nearest right name is given.
        """
        return cls.build({"preset": preset, **overrides}, where="adapter")


PRESETS: dict[str, dict[str, Any]] = {
    "epalm_lin": {"connector": "shared", "prompt": "none"},
    "epalm_pt": {"connector": "shared", "prompt": "plain", "prompt_tokens": 1},
    "epalm": {"connector": "per_level", "prompt": "mlp", "prompt_tokens": 10},
    "epalm_pt_L": {"connector": "shared", "prompt": "plain", "prompt_tokens": 10},
    "epalm_ada": {"connector": "shared", "prompt": "plain", "prompt_tokens": 1, "block_adapters": "both"},
    "text_only": {"connector": "none", "prompt": "plain", "prompt_tokens": 1},
    "promptfuse": {"mechanism": "promptfuse", "prompt": "plain", "prompt_tokens": 10},
    "limber_1": {"mechanism": "limber_1", "prompt": "none"},
    "limber_all": {"mechanism": "limber_all", "prompt": "none"},
    "mapl": {"mechanism": "mapl", "prompt": "none"},
    "depalm_qp_l0": {"mechanism": "depalm_qp_l0", "prompt": "plain", "prompt_tokens": 1},
    "depalm_qp_inner": {"mechanism": "depalm_qp_inner", "prompt": "plain", "prompt_tokens": 16},
    "depalm_r_avgpool": {"mechanism": "depalm_r_avgpool", "prompt": "plain", "prompt_tokens": 1},
    "depalm_r_linear": {"mechanism": "depalm_r_linear", "prompt": "plain", "prompt_tokens": 1},
    "depalm_r_rand": {"mechanism": "depalm_r_rand", "prompt": "plain", "prompt_tokens": 1},
    "cross_attention": {"mechanism": "cross_attention", "prompt": "plain", "prompt_tokens": 16},
    "deepstack": {"mechanism": "deepstack", "prompt": "plain", "prompt_tokens": 1},
    "llama_adapter": {"mechanism": "llama_adapter", "prompt": "none"},
    "memvp": {"mechanism": "memvp", "prompt": "none"},
}
"""Published variants of eP-ALM, the blind floor `text_only`, and rivals as they were published."""
