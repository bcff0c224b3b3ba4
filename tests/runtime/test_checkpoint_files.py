"""Files that are not what their name says, and directories that hold no model."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from epalm.runtime.checkpoint_files import damage, first_damage, is_gguf, not_a_model

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
WHOLE = save({"a": torch.arange(6.0), "b": torch.ones(2)})


def saved(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.safetensors", POINTER, "is a Git LFS pointer and not the file itself; run `git lfs pull`"),
        ("tokenizer.model", POINTER, "is a Git LFS pointer"),
        ("model.safetensors", b"", "is empty; download it again"),
        ("model.safetensors", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("model.safetensors", WHOLE[:-4], f"is cut off after {len(WHOLE) - 4} of {len(WHOLE)} bytes"),
        ("model.safetensors", WHOLE + b"more", f"{len(WHOLE) + 4} bytes, not {len(WHOLE)}"),
        ("model.safetensors", WHOLE[:30], "is cut off after 30 of"),
        ("model.safetensors", WHOLE.replace(b'"data_offsets"', b'"data_offsetz"'), "has a header that cannot be read"),
        ("model.safetensors", b"something else", "is no safetensors file, or damaged"),
        ("pytorch_model.bin", b"PK\x03\x04 the beginning of an archive", "is cut off; download it again"),
        ("config.json", b'{"a": ', "is not valid JSON"),
        ("config.json", b"\xff\xfe", "is not valid JSON"),
        ("config.json", b"[1]", "holds no JSON object"),
        ("model.gguf", b"GGUF\x01\x00\x00\x00", "is no GGUF file of version 2 or 3"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    assert reason in (damage(saved(tmp_path, name, content)) or "")


def test_whole_files_and_those_of_other_kinds_pass(tmp_path: Path) -> None:
    assert damage(saved(tmp_path, "model.safetensors", WHOLE)) is None
    assert damage(saved(tmp_path, "config.json", b"{}")) is None
    assert damage(saved(tmp_path, "notes.txt", b"anything")) is None
    torch.save({"a": torch.ones(2)}, tmp_path / "zipped.bin")
    torch.save({"a": torch.ones(2)}, tmp_path / "pickled.bin", _use_new_zipfile_serialization=False)
    assert zipfile.is_zipfile(tmp_path / "zipped.bin")
    assert damage(tmp_path / "zipped.bin") is None
    assert damage(tmp_path / "pickled.bin") is None


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "link.bin").symlink_to(tmp_path / "gone")
    assert damage(tmp_path / "gone") == "is not there; download it again"
    assert damage(tmp_path / "link.bin") == "is a link to a file that is not there; download it again"


def test_only_what_would_be_read_is_judged(tmp_path: Path) -> None:
    saved(tmp_path, "model.safetensors", WHOLE)
    saved(tmp_path, "pytorch_model.bin", POINTER)  # transformers takes the other one
    assert first_damage(tmp_path) is None
    (tmp_path / "model.safetensors").unlink()
    assert "pytorch_model.bin is a Git LFS pointer" in (first_damage(tmp_path) or "")


@pytest.mark.parametrize(
    ("placed", "reason"),
    [
        (
            {"a": "1.safetensors", "b": "2.safetensors"},
            "names 2 files of weights, and 1 of them is not there, first 2.",
        ),
        ({"a": "1.safetensors", "b": "3.safetensors"}, "3.safetensors is a Git LFS pointer"),
        ([], "does not say which file holds which weight"),
    ],
)
def test_every_file_that_an_index_names_is_judged(tmp_path: Path, placed: object, reason: str) -> None:
    saved(tmp_path, "1.safetensors", WHOLE)
    saved(tmp_path, "3.safetensors", POINTER)
    saved(tmp_path, "model.safetensors.index.json", json.dumps({"weight_map": placed}).encode())
    assert reason in (first_damage(tmp_path) or "")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "is an empty directory"),
        ({"adapter_config.json": '{"peft_type": "LORA", "base_model_name_or_path": "a/b"}'}, "merge it into a/b"),
        ({"config.json": "{}", "adapter_config.json": '{"peft_type": "IA3"}'}, "holds a PEFT adapter (IA3)"),
        ({"adapter_config.json": '{"epalm_version": "1"}'}, "holds an adapter of epalm"),
        ({"b.gguf": "", "a.gguf": ""}, "holds GGUF files; name one of them: a.gguf, b.gguf"),
        ({"inside/config.json": "{}"}, "its subdirectories do; name one of them: inside"),
        ({"params.json": "{}"}, "in its authors' own format"),
        ({"model.safetensors": ""}, "holds no config.json"),
    ],
)
def test_directories_that_hold_no_model(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert reason in (not_a_model(tmp_path) or "")
    (tmp_path / "adapter_config.json").unlink(missing_ok=True)
    (tmp_path / "config.json").write_text("{}")
    assert not_a_model(tmp_path) is None


def test_gguf_is_known_by_its_name_or_by_its_beginning(tmp_path: Path) -> None:
    assert is_gguf(saved(tmp_path, "a.GGUF", POINTER))
    assert is_gguf(saved(tmp_path, "sha256-1234", b"GGUF\x03\x00\x00\x00"))
    assert not is_gguf(saved(tmp_path, "model.bin", b"PK"))
    assert not is_gguf(tmp_path)
