"""Views that training has of files: which are drawn, that they are random where they should be and the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_watchers
import torch
from PIL import Image

from epalm.data.file_features import PerceivedFiles
from epalm.data.store import CachedFeatures, describe_encoder
from epalm.data.views import Views
from epalm.encoders import PerceptualEncoder, load_encoder
from epalm.errors import MediaError

av = pytest.importorskip("av", reason="PyAV is not installed")
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")

K, V = 2, 4


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> dict[str, PerceptualEncoder]:
    folder = tmp_path_factory.mktemp("encoders")
    watchers = {kind: tiny_watchers.save(name, folder / name) for kind, name in KINDS.items()}
    return {kind: load_encoder(place) for kind, place in (watchers | {"image": backbones / "vit"}).items()}


KINDS = {"video": "timesformer", "audio": "ast"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, encoders: dict[str, Any]) -> dict[str, list[dict[str, Path]]]:
    """Three files of each kind, in which no moment and no place is like another."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(3):
        ramp = np.linspace(0, 255, 24 * 30 * 3).reshape(24, 30, 3)
        Image.fromarray(np.roll(ramp, 300 * number).astype(np.uint8)).save(folder / f"{number}.png")
        sound = tiny_watchers.sound(number, 4 * encoders["audio"].window)
        soundfile.write(folder / f"{number}.wav", sound, tiny_watchers.RATE, subtype="FLOAT")
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 48, 40, "yuv420p", 8_000_000
            for i in range(40):
                picture = np.full((40, 48, 3), 6 * i + 5 * number, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    endings = {"image": "png", "audio": "wav", "video": "mp4"}
    return {kind: [{kind: folder / f"{n}.{end}"} for n in range(3)] for kind, end in endings.items()}


def perceiving(encoders: dict[str, Any], kind: str, views: Views, **options: Any) -> PerceivedFiles:
    return PerceivedFiles({kind: encoders[kind]}, {kind: K}, views=views, **options)


def visits(perceived: PerceivedFiles, rows: list[dict[str, Path]], steps: range) -> list[torch.Tensor]:
    (kind,) = rows[0]
    return [perceived.of(rows, step=step)[kind] for step in steps]


every_kind = pytest.mark.parametrize("kind", ["image", "audio", "video"])


@every_kind
def test_one_view_is_that_of_evaluation(encoders: dict[str, Any], rows: dict[str, Any], kind: str) -> None:
    perceived = perceiving(encoders, kind, Views())
    evaluated = perceived.of(rows[kind])[kind]
    assert all(torch.equal(visit, evaluated) for visit in visits(perceived, rows[kind], range(3)))


@every_kind
def test_v_views_are_kept_and_drawn_from(encoders: dict[str, Any], rows: dict[str, Any], kind: str) -> None:
    progress: list[tuple[str, int, int]] = []
    perceived = perceiving(encoders, kind, Views(V, seed=1, augment="crop"), batch_size=5)
    perceived.perceive(rows[kind], lambda *news: progress.append(news), training=True)
    assert progress[-1] == (f"perceiving {kind}", 3 * V, 3 * V)
    seen = torch.stack(visits(perceived, rows[kind], range(40)))  # (40, 3, K, E)
    for number in range(3):
        assert len({visit.numpy().tobytes() for visit in seen[:, number]}) == V
    assert not torch.equal(perceived.of(rows[kind])[kind], seen[0])  # evaluation has its own
    draws = [[visit.numpy().tobytes() for visit in seen[:, number]] for number in range(3)]
    orders = {tuple(sorted(set(draw)).index(one) for one in draw) for draw in draws}
    assert len(orders) == 3  # files are drawn apart


@every_kind
def test_kept_or_anew_batches_or_not_gives_the_same_bits(
    encoders: dict[str, Any], rows: dict[str, Any], kind: str
) -> None:
    views = Views(V, seed=2, augment="strong")
    kept = visits(perceiving(encoders, kind, views), rows[kind], range(5))
    anew = visits(perceiving(encoders, kind, views, keep=False, batch_size=1), rows[kind], range(5))
    assert all(torch.equal(one, other) for one, other in zip(kept, anew, strict=True))
    backwards = perceiving(encoders, kind, views, batch_size=2)
    for step in (4, 1):
        alone = [backwards.of([row], step=step)[kind][0] for row in reversed(rows[kind])]
        assert torch.equal(torch.stack(alone[::-1]), kept[step])
    other_seed = visits(perceiving(encoders, kind, Views(V, seed=3, augment="strong")), rows[kind], range(1))
    assert not torch.equal(other_seed[0], kept[0])


@every_kind
def test_a_store_gives_the_same_views(
    encoders: dict[str, Any], rows: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    views = Views(V, seed=2, augment="strong")
    wanted = perceiving(encoders, kind, views)
    for total in (3 * V, 0):
        progress: list[tuple[str, int, int]] = []
        stored = CachedFeatures(tmp_path, describe_encoder(encoders[kind], K), views, batch_size=5)
        perceived = perceiving(encoders, kind, views, kept={kind: stored})
        perceived.perceive(rows[kind], lambda *news, progress=progress: progress.append(news), training=True)
        assert (progress[-1][1:] if progress else (0, 0)) == (total, total)
        for step in range(5):
            assert torch.equal(perceived.of(rows[kind], step=step)[kind], wanted.of(rows[kind], step=step)[kind])
        assert torch.equal(perceived.of(rows[kind])[kind], wanted.of(rows[kind])[kind])


@every_kind
def test_views_without_end(encoders: dict[str, Any], rows: dict[str, Any], kind: str) -> None:
    views = Views(None, augment="crop")
    perceived = perceiving(encoders, kind, views, keep=False)
    seen = visits(perceived, rows[kind], range(12))
    assert len({visit[0].numpy().tobytes() for visit in seen}) == 12
    assert torch.equal(visits(perceived, rows[kind], range(7, 8))[0], seen[7])
    first = perceived.of([rows[kind][0]] * 2, step=7)[kind]
    assert torch.equal(first[0], first[1])  # one file has one view a step
    with pytest.raises(ValueError, match="cannot be kept"):
        perceiving(encoders, kind, views)


def test_a_picture_has_one_view_without_augmentation(encoders: dict[str, Any], rows: dict[str, Any]) -> None:
    perceived = perceiving(encoders, "image", Views(V))
    perceived.perceive(rows["image"], training=True)
    seen = visits(perceived, rows["image"], range(4))
    assert all(torch.equal(visit, perceived.of(rows["image"])["image"]) for visit in seen)


def test_a_random_view_of_a_sound_is_a_stretch_of_it(encoders: dict[str, Any], rows: dict[str, Any]) -> None:
    encoder, path = encoders["audio"], rows["audio"][0]["audio"]
    whole, views = Views().decode(encoder, path), Views(V)
    assert len(whole) == 4 * encoder.window
    starts = set()
    for view in range(12):
        stretch = views.decode(encoder, path, view)
        assert len(stretch) == encoder.window
        assert stretch.base is None  # the rest of the sound is let go
        (start,) = (
            i for i in range(len(whole) - len(stretch) + 1) if whole[i] == stretch[0] and alike(whole, stretch, i)
        )
        starts.add(start)
    assert len(starts) == 12
    assert max(starts) > 2 * encoder.window


def alike(whole: np.ndarray, stretch: np.ndarray, start: int) -> bool:
    return np.array_equal(whole[start : start + len(stretch)], stretch)


def test_masked_views_of_a_short_sound(encoders: dict[str, Any], tmp_path: Path) -> None:
    """They differ from each other, the same in memory, in a store, or kept nowhere; evaluation has none."""
    sound = tiny_watchers.sound(0, encoders["audio"].window - 1)
    soundfile.write(tmp_path / "a.wav", sound, tiny_watchers.RATE, subtype="FLOAT")
    rows = [{"audio": tmp_path / "a.wav"}]
    plain, views = Views(V, seed=1), Views(V, seed=1, mask_sounds=True)
    description = describe_encoder(encoders["audio"], K)
    seen = []
    for options in ({}, {"keep": False}):
        perceived = perceiving(encoders, "audio", views, **options)
        seen.append(torch.stack(visits(perceived, rows, range(20))))
        assert torch.equal(perceived.of(rows)["audio"], perceiving(encoders, "audio", plain).of(rows)["audio"])
    for chosen in (plain, views, plain):  # both in one store, where each has its own items
        kept = {"audio": CachedFeatures(tmp_path / "store", description, chosen, 8)}
        perceived = perceiving(encoders, "audio", chosen, kept=kept)
        seen.append(torch.stack(visits(perceived, rows, range(20))))
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[3])
    assert len({visit.numpy().tobytes() for visit in seen[0]}) == V
    for whole in (seen[2], seen[4]):
        assert len({visit.numpy().tobytes() for visit in whole}) == 1


def test_a_sound_no_longer_than_the_window_is_whole(encoders: dict[str, Any], tmp_path: Path) -> None:
    encoder = encoders["audio"]
    for samples in (1, encoder.window - 1, encoder.window):
        sound = tiny_watchers.sound(0, samples)
        soundfile.write(tmp_path / "a.wav", sound, tiny_watchers.RATE, subtype="FLOAT")
        np.testing.assert_array_equal(Views(V).decode(encoder, tmp_path / "a.wav", 3), sound)


def test_a_random_view_of_a_clip_has_a_frame_of_every_interval(encoders: dict[str, Any], rows: dict[str, Any]) -> None:
    encoder, path = encoders["video"], rows["video"][0]["video"]
    greys = np.array([Views(V).decode(encoder, path, view).mean(axis=(1, 2, 3)) for view in range(12)])  # (12, N)
    frames = np.round(greys / 6).astype(int)
    assert (frames // 10 == np.arange(encoder.frames)).all()
    assert all(len(set(column)) > 4 for column in frames.T)


def test_files_elsewhere_are_drawn_alike(encoders: dict[str, Any], rows: dict[str, Any], tmp_path: Path) -> None:
    moved = tmp_path / rows["audio"][0]["audio"].name
    moved.write_bytes(rows["audio"][0]["audio"].read_bytes())
    views = Views(V)
    np.testing.assert_array_equal(
        views.decode(encoders["audio"], moved, 2), views.decode(encoders["audio"], rows["audio"][0]["audio"], 2)
    )


def test_damage_that_evaluation_does_not_meet(encoders: dict[str, Any], tmp_path: Path) -> None:
    """A random view that meets damage gives way to evaluation's where files may be skipped, and else is an error."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for i in range(40):
            picture = np.full((40, 48, 3), (6 * i, 255 - 6 * i, 0), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in packets[38:]:
        data[place : place + size] = bytes(size)
    path.write_bytes(data)
    row = {"video": path}
    strict = perceiving(encoders, "video", Views(None), keep=False)
    evaluated = strict.of([row])["video"]
    few = Views(20)
    description = describe_encoder(encoders["video"], K)

    def stored(skip_bad: bool) -> PerceivedFiles:
        kept = CachedFeatures(tmp_path / "store", description, few, 8, skip_bad=skip_bad)
        return perceiving(encoders, "video", few, kept={"video": kept}, skip_bad=skip_bad)

    stored(True).perceive([row], training=True)
    with pytest.raises(MediaError, match=r"a\.mp4: damaged at 1\.\d s"):
        stored(False).perceive([row], training=True)
    with pytest.raises(MediaError, match=r"a\.mp4: damaged at 1\.\d s"):
        visits(strict, [row], range(20))
    lenient = perceiving(encoders, "video", Views(None), keep=False, skip_bad=True)
    lenient.perceive([row], training=True)
    seen = visits(lenient, [row], range(20))
    assert not lenient.bad
    assert 0 < sum(torch.equal(visit, evaluated) for visit in seen) < 20


def test_colours_are_told_apart_by_any_view(backbones: Path, place: Path) -> None:
    encoder = load_encoder(backbones / "vit")
    files = [{"image": Path("pictures") / f"{name}.png"} for name in tiny.COLOURS]
    perceived = PerceivedFiles({"image": encoder}, {"image": K}, views=Views(3, augment="flip"))
    plain = perceived.of(files)["image"]
    for visit in visits(perceived, files, range(3)):  # a part of a plain picture is as plain
        assert torch.allclose(visit, plain, atol=1e-4)


def test_evaluation_may_have_random_frames_that_stay_the_same(encoders: dict[str, Any], rows: dict[str, Any]) -> None:
    for kind in ("image", "audio", "video"):
        middle, drawn, again = (
            perceiving(encoders, kind, Views(evaluation_frames=frames), **options).of(rows[kind])[kind]
            for frames, options in (("middle", {}), ("random", {}), ("random", {"keep": False}))
        )
        assert torch.equal(drawn, again)
        assert torch.equal(drawn, middle) == (kind != "video")
