"""Every token of sounds, of which each has as many as it is long: the same from memory, from a store and anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_watchers
import torch
from tiny_watchers import RATE, sound

from epalm.data.file_features import PerceivedFiles
from epalm.data.store import CachedFeatures, FeatureStore, ImportedFeatures, describe_encoder
from epalm.data.store.report import report_on
from epalm.data.views import Views
from epalm.encoders import PerceptualEncoder, TokenFeatures, load_encoder
from epalm.media import load_audio

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")

K = 2
LENGTHS = {"long": 9000, "short": 1700, "brief": 403, "other": 5000}
TOKENS = {"long": 29, "short": 6, "brief": 2, "other": 16}
"""Whisper's, one for each begun 320 samples."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> PerceptualEncoder:
    return load_encoder(tiny_watchers.save("whisper", tmp_path_factory.mktemp("whisper")))


@pytest.fixture
def sounds(tmp_path: Path) -> list[dict[str, Path]]:
    rows = []
    for seed, (name, samples) in enumerate(LENGTHS.items()):
        rows.append({"audio": tmp_path / f"{name}.wav"})
        soundfile.write(rows[-1]["audio"], sound(seed, samples), RATE, subtype="FLOAT")
    return rows


def perceiving(encoder: PerceptualEncoder, folder: Path | None = None, dtype: Any = None, **options: Any) -> Any:
    kept = {}
    if folder is not None:
        description = describe_encoder(encoder, K, dtype, every_token=True)
        kept["audio"] = CachedFeatures(folder / description.key, description, Views(), 3)
    return PerceivedFiles({"audio": encoder}, {"audio": K}, batch_size=3, kept=kept, every_token=True, **options)


def same(given: TokenFeatures, wanted: TokenFeatures) -> bool:
    """But for roundings: batches of other sizes may differ by those."""
    alike = torch.allclose(given.values, wanted.values, rtol=1e-5, atol=1e-6)
    return torch.equal(given.mask, wanted.mask) and alike and not given.values.movedim(1, 2)[~given.mask].any()


def test_from_memory_from_a_store_and_anew(
    encoder: PerceptualEncoder, sounds: list[dict[str, Path]], tmp_path: Path
) -> None:
    memory, built = perceiving(encoder), perceiving(encoder, tmp_path / "store")
    anew = perceiving(encoder, keep=False)
    for files in (memory, built):
        files.perceive(sounds)
    opened = perceiving(encoder, tmp_path / "store")
    for numbers in ([2, 0, 0, 1], [2], [1, 3], [0, 1, 2, 3]):
        rows = [sounds[i] for i in numbers]
        wanted = anew.of(rows)["audio"]
        counts = [list(TOKENS.values())[i] for i in numbers]
        assert wanted.values.shape == (len(rows), K, max(counts), encoder.width)
        assert wanted.mask.sum(dim=1).tolist() == counts
        kept = [files.of(rows)["audio"] for files in (memory, built, opened)]
        assert all(same(features, wanted) for features in kept)
        assert all(torch.equal(features.values, kept[0].values) for features in kept)
    direct = encoder.every_token(encoder.preprocess([load_audio(row["audio"], **encoder.reading) for row in sounds]), K)
    assert same(anew.of(sounds)["audio"], direct)
    means = PerceivedFiles({"audio": encoder}, {"audio": K}).of(sounds)["audio"]
    torch.testing.assert_close(torch.stack([tokens.mean(dim=1) for tokens in direct.single()]), means)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_loses_the_last_bits_alone(
    encoder: PerceptualEncoder, sounds: list[dict[str, Path]], tmp_path: Path, dtype: str
) -> None:
    given = perceiving(encoder, tmp_path, dtype).of(sounds)["audio"]
    wanted = perceiving(encoder).of(sounds)["audio"]
    assert given.values.dtype == getattr(torch, dtype)
    assert torch.equal(given.values, wanted.values.to(given.values.dtype))


def test_damage_is_found_and_mended_and_a_ready_store_gives_its_deepest_levels(
    encoder: PerceptualEncoder, sounds: list[dict[str, Path]], tmp_path: Path
) -> None:
    wanted = perceiving(encoder, keep=False).of(sounds)["audio"]
    perceiving(encoder, tmp_path / "store").perceive(sounds[:2])
    perceiving(encoder, tmp_path / "store").perceive(sounds)
    first, second = sorted(tmp_path.glob("store/*/*.safetensors"))
    for path in (first, second):
        data = path.read_bytes()
        path.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
        assert same(perceiving(encoder, tmp_path / "store").of(sounds)["audio"], wanted)
        assert path.read_bytes() == data
    store = FeatureStore(first.parent)
    assert (store.description.shape, store.description.special_tokens) == ((K, -1, encoder.width), 0)
    report = report_on(first.parent, checksums=True)
    assert (report.items, report.damaged, report.tokens) == (4, {}, (2, 29))
    assert f"4 of ({K}, N, {encoder.width}) with N from 2 to 29, float32" in report.as_text()
    ready = PerceivedFiles({}, {"audio": 1}, kept={"audio": ImportedFeatures(first.parent)})
    assert same(ready.of(sounds)["audio"], wanted.deepest(1))


def test_files_that_cannot_be_read_are_left_out(
    encoder: PerceptualEncoder, sounds: list[dict[str, Path]], tmp_path: Path
) -> None:
    (tmp_path / "brief.wav").write_bytes(b"no sound")
    files = perceiving(encoder, tmp_path / "store", skip_bad=True)
    files.perceive(sounds, training=True)
    assert [path.name for _, path in files.bad] == ["brief.wav"]
    good = [row for row in sounds if "brief" not in row["audio"].name]
    assert same(files.of(good, step=0)["audio"], perceiving(encoder).of(good)["audio"])
