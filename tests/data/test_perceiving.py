"""Batches on their way to the encoder: however many threads there are, the order, features and errors are the same."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_media
import tiny_watchers
import torch
from PIL import Image

from epalm.data.perceiving import _preparers, perceive_batches
from epalm.data.views import FileView, Views
from epalm.encoders import PerceptualEncoder, load_encoder
from epalm.errors import MediaError

pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("soundfile", reason="soundfile is not installed")

K, SIZE = 2, 2
WATCHERS = {"video": "timesformer", "audio": "ast"}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> dict[str, PerceptualEncoder]:
    folder = tmp_path_factory.mktemp("encoders")
    found = {kind: load_encoder(tiny_watchers.save(name, folder / name)) for kind, name in WATCHERS.items()}
    frames = load_encoder(backbones / "vit", modality="video", frames=3)
    return {"image": load_encoder(backbones / "vit"), "frames": frames, **found}


@pytest.fixture
def pictures(tmp_path: Path) -> list[list[FileView]]:
    """Batches of two pictures, no two alike."""
    for number in range(9):
        ramp = np.linspace(0, 255, 24 * 30 * 3).reshape(24, 30, 3)
        Image.fromarray(np.roll(ramp, 300 * number).astype(np.uint8)).save(tmp_path / f"{number}.png")
    return cut([(tmp_path / f"{number}.png", None) for number in range(9)])


def cut(views: list[FileView]) -> list[list[FileView]]:
    return [views[first : first + SIZE] for first in range(0, len(views), SIZE)]


def perceived(encoder: PerceptualEncoder, batches: Sequence[Sequence[FileView]], preparers: int | None = None) -> Any:
    def decode(one: FileView) -> Any:
        return Views().decode(encoder, *one)

    return list(perceive_batches(encoder, K, batches, decode, preparers=preparers))


@pytest.mark.parametrize("kind", ["image", "frames", "video", "audio"])
def test_threads_change_neither_features_nor_their_order(
    encoders: dict[str, PerceptualEncoder], pictures: list[list[FileView]], kind: str, tmp_path: Path
) -> None:
    encoder, batches = encoders[kind], pictures
    if kind == "audio":
        files = [tiny_media.save_sound(tmp_path / f"{pitch}.wav", pitch) for pitch in range(200, 900, 100)]
        batches = cut([(file, None) for file in files])
    elif kind != "image":
        clips = [tiny_media.save_clip(tmp_path / f"{red}.mp4", (red, 90, 9)) for red in range(0, 250, 40)]
        batches = cut([(clip, None) for clip in clips])
    alone = perceived(encoder, batches, 1)
    assert [read for read, _ in alone] == batches
    assert len({tuple(row.flatten().tolist()) for _, features in alone for row in features}) == sum(map(len, batches))
    for preparers in (None, 2, 3, 50):
        together = perceived(encoder, batches, preparers)
        assert [read for read, _ in together] == batches
        assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(alone, together, strict=True))


class Meeting:
    """An image processor that goes on when `barrier` lets it; no two threads may have the same one."""

    def __init__(self, processor: Any, barrier: threading.Barrier) -> None:
        self.processor, self.barrier, self.lock = processor, barrier, threading.Lock()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        assert self.lock.acquire(blocking=False)
        try:
            self.barrier.wait(20)
            return self.processor(*arguments, **options)
        finally:
            self.lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def __deepcopy__(self, memo: Any) -> Meeting:
        return Meeting(copy.deepcopy(self.processor), self.barrier)


@pytest.mark.parametrize("kind", ["image", "frames"])
def test_batches_are_preprocessed_at_the_same_time(
    encoders: dict[str, PerceptualEncoder], pictures: list[list[FileView]], kind: str, tmp_path: Path
) -> None:
    encoder, batches = copy.deepcopy(encoders[kind]), pictures[:3]
    if kind == "frames":
        batches = [[(tiny_media.save_clip(tmp_path / f"{red}.mp4", (red, 9, 9)), None)] for red in (0, 100, 200)]
    expected = perceived(encoder, batches)
    takes = encoder.image if kind == "frames" else encoder  # which of them has the processor that is called
    takes.processor = Meeting(takes.processor, threading.Barrier(3))
    met = perceived(encoder, batches, 3)
    assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(expected, met, strict=True))


def test_a_gpu_is_served_by_more_threads_than_a_cpu(encoders: dict[str, PerceptualEncoder]) -> None:
    elsewhere = copy.deepcopy(encoders["image"]).to("meta")
    assert _preparers(encoders["image"], 100) == 1
    assert [_preparers(elsewhere, batches) for batches in (0, 1, 2, 100)] == [1, 1, 2, 3]


@pytest.mark.parametrize("preparers", [1, 3])
def test_the_first_file_that_cannot_be_read_is_named(
    encoders: dict[str, PerceptualEncoder], pictures: list[list[FileView]], preparers: int
) -> None:
    encoder, later = encoders["image"], threading.Event()
    first_bad, second_bad = pictures[1][1], pictures[2][0]
    before = set(threading.enumerate())

    def decode(one: FileView) -> Any:
        if one == first_bad:
            later.wait(5)  # the other one fails earlier
        if one in (first_bad, second_bad):
            later.set()
            raise MediaError(f"{one[0].name}: cannot be read")
        return Views().decode(encoder, *one)

    stream = perceive_batches(encoder, K, pictures, decode, preparers=preparers)
    assert next(stream)[0] == pictures[0]
    with pytest.raises(MediaError, match=rf"^{first_bad[0].name}: cannot be read"):
        next(stream)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("preparers", [1, 3, 50])
def test_no_more_is_decoded_than_is_under_way_and_no_thread_is_left(
    encoders: dict[str, PerceptualEncoder], pictures: list[list[FileView]], preparers: int
) -> None:
    encoder, asked = encoders["image"], set[FileView]()
    before = set(threading.enumerate())

    def decode(one: FileView) -> Any:
        asked.add(one)
        return Views().decode(encoder, *one)

    stream = perceive_batches(encoder, K, pictures, decode, preparers=preparers)
    next(stream)
    assert set(threading.enumerate()) > before
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert asked <= {one for batch in pictures[:3] for one in batch}
    assert set(threading.enumerate()) == before


def test_a_cpu_is_given_batches_in_pieces(
    encoders: dict[str, PerceptualEncoder], pictures: list[list[FileView]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, sizes = load_encoder(copy.deepcopy(encoders["image"].backbone), processor=encoders["image"].processor), []
    batches, bad = [[one for batch in pictures[:3] for one in batch], pictures[3]], {pictures[1][0], pictures[1][1]}
    encoder.backbone.register_forward_pre_hook(
        lambda _module, _args, inputs: sizes.append(len(inputs["pixel_values"])), with_kwargs=True
    )

    def decode(one: FileView) -> Any:
        return None if one in bad else Views().decode(encoder, *one)

    whole = list(perceive_batches(encoder, K, batches, decode))
    assert sizes == [4, 2]
    for at_once, expected in ((1, [1] * 6), (2, [2, 2, 2])):
        sizes.clear()
        monkeypatch.setattr("epalm.data.perceiving._TOKENS_AT_ONCE", at_once * encoder.anatomy.tokens + 1)
        for (views, features), (read, cut) in zip(whole, perceive_batches(encoder, K, batches, decode), strict=True):
            assert read == views
            torch.testing.assert_close(cut, features, rtol=1e-5, atol=1e-6)
        assert sizes == expected
    half = encoder.to(torch.bfloat16)
    assert [features.dtype for _, features in perceive_batches(half, K, batches, decode)] == [torch.bfloat16] * 2
