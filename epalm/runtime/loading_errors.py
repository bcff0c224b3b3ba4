"""What transformers raises while it reads a checkpoint -> one line: what, where, and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers.quantizers import AutoHfQuantizer

from epalm.errors import ConfigError, EpalmError, UnsupportedModelError, is_out_of_memory
from epalm.runtime.checkpoint_files import cached_folder, damage, first_damage

_LAYER = re.compile(r"\.(\d+)\.")
_UNKNOWN_TYPE = re.compile(r"model type `(.+?)` but Transformers does not recognize")


@contextmanager
def explained(name: str, path: str | None, kind: type[EpalmError]) -> Iterator[None]:
    """Turn whatever is raised inside, while a checkpoint is read, into one line.

    Args:
        name: what the message calls the checkpoint.
        path: the directory or hub id that is read; None where a live model is at hand.
        kind: the class of errors that nothing more is known of; files that are not there are always a `ConfigError`.
    """
    try:
        yield
    except EpalmError:
        raise
    except Exception as error:  # transformers passes on whatever the readers of the files raise
        if is_out_of_memory(error):
            raise
        raise _explanation(error, name, path, kind) from None


def one_line(error: BaseException) -> str:
    """The message of an exception, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def require_own_weights(name: str, model: nn.Module, report: Mapping[str, Any]) -> None:
    """See that weights are those of the model that the configuration beside them describes.

    Args:
        name: what the message calls the checkpoint.
        model: as it was loaded.
        report: the loading info of `from_pretrained(..., ignore_mismatched_sizes=True)`.

    Raises:
        ConfigError: a weight has another shape, and was left random; or the weights go on behind the last layer.
    """
    if mismatched := sorted(report.get("mismatched_keys") or ()):
        weight, saved, expected = mismatched[0]
        raise ConfigError(
            f"{name}: '{weight}' has shape {list(saved)} in its weights and {list(expected)} by its config.json; the "
            "two are of different models"
        )
    lengths = {key: len(stack) for key, stack in model.named_modules() if isinstance(stack, nn.ModuleList)}
    left_out: dict[str, set[int]] = {}  # of every stack of layers, in part or as a whole
    for key in report.get("unexpected_keys") or ():
        for found in _LAYER.finditer(key):  # stacks may lie in stacks
            left_out.setdefault(key[: found.start()], set()).add(int(found[1]))
    # Layers that predict several tokens ahead stand behind the last one, and transformers leaves them out.
    config = getattr(model, "config", None)
    ahead = getattr(getattr(config, "text_config", config), "num_nextn_predict_layers", None) or 0
    for saved_as, numbers in left_out.items():
        first = min(numbers)
        for stack, length in lengths.items():
            is_same = f".{stack}".endswith(f".{saved_as}") or f".{saved_as}".endswith(f".{stack}")
            if is_same and 0 < first == length and len(numbers) > ahead:
                raise ConfigError(
                    f"{name}: its config.json has {length} layers, its weights have more ('{saved_as}.{first}'); the "
                    "two are of different models"
                )


def require_known_quantization(name: str, config: Any) -> None:
    """See that transformers can read weights that are quantised as a configuration says.

    It would take them for what they would be without that.

    Raises:
        UnsupportedModelError: it cannot.
    """
    quantization = getattr(config, "quantization_config", None)
    if quantization and not AutoHfQuantizer.supports_quant_method(quantization):
        method = quantization.get("quant_method")
        raise UnsupportedModelError(
            f"{name}: quantised by '{method}', which transformers {transformers.__version__} cannot read; take another"
        )


def _explanation(error: Exception, name: str, path: str | None, kind: type[EpalmError]) -> EpalmError:
    message = one_line(error)
    if "trust_remote_code" in message:
        return UnsupportedModelError(
            f"{name}: needs code of its own (auto_map), which is never run; take a model that transformers itself has"
        )
    if unknown := _UNKNOWN_TYPE.search(message):
        return UnsupportedModelError(
            f"{name}: transformers {transformers.__version__} has no models of type '{unknown[1]}'; a newer version "
            "may (pip install --upgrade transformers)"
        )
    if "Should have a `model_type` key" in message:
        return UnsupportedModelError(f"{name}: its config.json names no model_type, so it is no model of transformers")
    if message.startswith(("Can't load image processor", "Can't load feature extractor")):
        return ConfigError(f"{name}: it holds no preprocessor_config.json; download it")
    if "ignore_mismatched_sizes" in message:
        return ConfigError(f"{name}: its weights have other shapes than by its config.json; both must be of one model")
    if message.startswith("Error no file named model.safetensors"):
        return ConfigError(f"{name}: holds no weights; download model.safetensors or pytorch_model.bin into it")
    if path is not None and (reason := _trouble_of_hub(error, path)):
        return ConfigError(f"{name}: {reason}")
    if type(error).__name__ == "UnpicklingError":
        return ConfigError(f"{name}: its weights are damaged, or more than tensors; code in a checkpoint is never run")
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return ConfigError(f"{name}: needs the package {package}, which is not installed (pip install {package})")
    if isinstance(error, OSError | ImportError):
        return ConfigError(f"{name}: {message}")
    return kind(f"{name}: {message}")


def _trouble_of_hub(error: Exception, path: str) -> str | None:
    """Why a hub id cannot be read; None where it is a directory, or nothing is known of it."""
    if Path(path).is_dir():
        return None
    if isinstance(error, HFValidationError) or "Repo id must" in str(error):
        return "no such directory, and no id on the Hub, which is 'owner/name' without a revision"
    folder = cached_folder(path)
    if folder is None and constants.HF_HUB_OFFLINE:
        fetched = ["/".join(each.name.split("--")[1:]) for each in Path(constants.HF_HUB_CACHE).glob("models--*")]
        near = difflib.get_close_matches(path, fetched, n=1, cutoff=0.8)
        advice = f"did you mean '{near[0]}'?" if near else "unset it, or name a directory"
        return f"no such directory, not fetched before, and HF_HUB_OFFLINE is set; {advice}"
    for file in () if folder is None else sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin") and (reason := damage(file)):
            # What the link points to: as long as that is there, the Hub's client takes the file for fetched.
            return f"{file.name} {reason.split(';')[0]}; delete {file.resolve()}, and it is fetched again"
    if folder is not None and constants.HF_HUB_OFFLINE and (reason := first_damage(folder)):
        return f"{reason.split(';')[0]}; unset HF_HUB_OFFLINE, and they are fetched"
    return None
