"""The files of a language model: a directory or hub id as transformers saves it, or GGUF; and the tokenizer in them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from epalm.errors import ConfigError, EpalmError
from epalm.models.config_check import check_config
from epalm.models.quantised import OF_BITSANDBYTES, Quantization, bitsandbytes_config
from epalm.runtime.checkpoint_files import cached_folder, damage, first_damage, is_gguf, not_a_model
from epalm.runtime.loading_errors import explained, require_known_quantization, require_own_weights
from epalm.runtime.sources import resolve_source

_JSON_FILES = ("config.json", "generation_config.json")
_VOCABULARIES = (
    "tokenizer.json", "tokenizer.model*", "vocab.*", "merges.txt", "*.tiktoken", "spiece.model", "*.bpe.model",
    "*.spm", "tekken.json",
)  # fmt: skip
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER_PACKAGES = {"sentencepiece": "sentencepiece", "tiktoken": "tiktoken", "protobuf": "google.protobuf"}
"""Packages that some tokenizers need, and the modules in them."""
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class LanguageModelFiles:
    """Where `from_pretrained` finds a language model."""

    source: str
    """As the user named it."""
    path: str
    """Directory or hub id."""
    gguf_file: str | None = None
    """The file in the directory, where it is one of GGUF; its weights are unpacked when they are loaded."""

    @classmethod
    def find(cls, source: str | Path, *, weights: bool = True) -> LanguageModelFiles:
        """See where `source` is, and that a language model can be there.

        Args:
            source: directory, GGUF file, hub id or toy backbone.
            weights: whether they will be read, and must be whole.

        Raises:
            ConfigError: nothing is there, or something else, or a file is damaged.
        """
        try:
            resolved = resolve_source(source)
        except ConfigError as error:
            raise ConfigError(f"language model {error}") from None
        path = Path(resolved)
        if is_gguf(path):
            part = _PART.search(path.name)
            if part and int(part[1]) > 1:
                reason: str | None = f"is one of {int(part[1])} parts; merge them (llama-gguf-split --merge)"
            else:
                reason = damage(path)
            found = cls(str(source), str(path.parent), path.name)
        else:
            is_there = path.is_dir()
            reason = (not_a_model(path) or first_damage(path, _JSON_FILES, weights=weights)) if is_there else None
            found = cls(str(source), resolved)
        if reason:
            raise ConfigError(f"language model {source}: {reason}")
        return found

    def options(self, *, weights: bool = False) -> dict[str, Any]:
        """Keyword arguments for `from_pretrained`.

        Args:
            weights: whether weights are to be loaded.
        """
        options: dict[str, Any] = {"trust_remote_code": False}  # code from a repository is never run
        if self.gguf_file is not None:
            options["gguf_file"] = self.gguf_file
            if weights and hasattr(transformers, "GgufConfig"):  # older versions know no other way than to unpack
                options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        return options

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside this context whatever is raised while the files are read becomes one line."""
        with explained(f"language model {self.source}", self.path, ConfigError):
            try:
                yield
            except ImportError:
                if self.gguf_file is None or importlib.util.find_spec("gguf") is not None:
                    raise
                raise ConfigError(
                    f"language model {self.source}: GGUF files need the package gguf, which is not installed; "
                    'install it (pip install "epalm[gguf]")'
                ) from None

    def config(self) -> Any:
        """The configuration.

        Raises:
            ConfigError: it cannot be read.
            UnsupportedModelError: transformers knows no such models, or not how their weights are quantised.
        """
        with self.reading():
            config = AutoConfig.from_pretrained(self.path, **self.options())
            require_known_quantization(f"language model {self.source}", config)
        return config

    def load(
        self,
        dtype: torch.dtype,
        attn_implementation: str | None,
        quantization: Quantization | None,
        device: str | torch.device | None,
        decoder_layers: str | None,
    ) -> PreTrainedModel:
        """The language model with its weights, on the CPU; one that bitsandbytes quantises is on `device`.

        Arguments as in `load_language_model`; `int8` is left to the caller.

        Raises:
            ConfigError: the weights cannot be read, are another model's or not all there, or cannot be quantised so.
            UnsupportedModelError: what is there cannot be served.
        """
        if self.gguf_file and quantization in OF_BITSANDBYTES:
            raise ConfigError(f"model.quantization: a GGUF file cannot be given {quantization}; choose int8 or none")
        options: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        if quantization in OF_BITSANDBYTES:
            options["quantization_config"] = bitsandbytes_config(quantization, dtype)
            options["device_map"] = {"": device or "cpu"}
        check_config(self.config(), self.source, attn_implementation, decoder_layers)
        with self.reading():
            model, report = AutoModelForCausalLM.from_pretrained(
                self.path,
                dtype=dtype,
                return_dict=True,  # whatever its configuration says: transformers' own code for it needs that
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **self.options(weights=True),
                **options,
            )
        require_own_weights(f"language model {self.source}", model, report)
        if report["missing_keys"]:
            # transformers fills them with random weights
            lacking = sorted(report["missing_keys"])
            raise ConfigError(
                f"language model {self.source}: its checkpoint lacks {len(lacking)} weights, first '{lacking[0]}'"
            )
        return model

    def tokenizer(self) -> Any:
        """The tokenizer, or None where there is none.

        Raises:
            ConfigError: there is one, and it cannot be loaded; or the configuration cannot be read.
            UnsupportedModelError: see `config`.
        """
        if self.gguf_file is None:
            self.config()  # AutoTokenizer goes on without one
        # Beside a GGUF file the directory's own is taken: transformers would mix it with the one in the file.
        from_folder = any((Path(self.path) / name).exists() for name in ("tokenizer.json", _TOKENIZER_CONFIG))
        files = LanguageModelFiles(self.source, self.path) if from_folder else self
        try:
            with self.reading():
                tokenizer = AutoTokenizer.from_pretrained(self.path, **files.options())
        except EpalmError as error:
            reason = str(error).removeprefix(f"language model {self.source}: ")
        else:
            if _knows_words(tokenizer):
                return tokenizer
            reason = "it has no vocabulary"
        if (explanation := files._why_no_tokenizer(reason)) is None:
            return None
        raise ConfigError(f"language model {self.source}: its tokenizer cannot be loaded: {explanation}")

    def _why_no_tokenizer(self, reason: str) -> str | None:
        """Why there is a tokenizer that cannot be loaded, where transformers gives `reason`; None: there is none."""
        if self.gguf_file is not None:
            return reason
        folder = cached_folder(self.path)
        if folder is None:
            return None
        config = folder / _TOKENIZER_CONFIG
        vocabularies = [file for name in _VOCABULARIES for file in sorted(folder.glob(name))]
        for file in (*([config] if config.exists() else []), *vocabularies):
            if found := damage(file):
                return f"{file.name} {found}"
        if not vocabularies:
            return (
                f"{config.name} is there, its vocabulary is not; download tokenizer.json" if config.exists() else None
            )
        if package := _missing_package(reason, vocabularies):
            return f"it needs the package {package}, which is not installed; install it (pip install {package})"
        return reason


def _missing_package(reason: str, vocabularies: Iterable[Path]) -> str | None:
    """The package without which a tokenizer cannot be read, as far as that can be told."""
    missing = [name for name, module in _TOKENIZER_PACKAGES.items() if not _is_importable(module)]
    # transformers takes such a file for one of tiktoken's, which is text, where it lacks sentencepiece.
    is_binary = any(file.suffix in (".model", ".spm") and _is_binary(file) for file in vocabularies)
    if is_binary and "sentencepiece" in missing:
        return "sentencepiece"
    return next((name for name in missing if name in reason), None)


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it would be in
        return False


def _is_binary(file: Path) -> bool:
    with file.open("rb") as opened:
        return any(byte < 9 or 13 < byte < 32 for byte in opened.read(64))


def _knows_words(tokenizer: Any) -> bool:
    """Whether there is anything in a vocabulary but the tokens that transformers itself puts there."""
    added: Any = getattr(tokenizer, "get_added_vocab", dict)()  # mistral-common's has none
    return bool(set(tokenizer.get_vocab()) - set(added))
