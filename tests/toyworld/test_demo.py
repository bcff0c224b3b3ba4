"""The demo on a shoestring: every cell has its row, and the page stands on its own."""

import json
import re

import pytest

from epalm.toyworld.demo import KINDS, Budget, arms, run


@pytest.mark.slow
def test_every_cell_has_its_row_and_the_page_needs_no_other_file(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("av")
    told: list[tuple[str, int, int]] = []
    budgets = dict.fromkeys(KINDS, Budget(things=8, steps=3))

    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    run(tmp_path, budgets, 0, "the command", tell, apart=True, held_out=12, workers=2)
    rows = json.loads((tmp_path / "results.json").read_text())
    cells = {(row["modality"], row["task"], row["mechanism"]) for row in rows}
    assert len(cells) == len(rows) == 2 * (2 * 3 + 1) + 2  # of two modalities each alone
    assert {kind for kind, _, _ in cells} == set(KINDS)
    for row in rows:
        assert set(row) == {
            "modality", "task", "mechanism", "metric", "score", "trained_parameters", "trained_share", "seconds",
        }  # fmt: skip
        assert 0 <= row["score"] <= 100
        assert 0 < row["trained_share"] < 0.01 * len(row["modality"].split("+"))
    assert (tmp_path / "settings.txt").read_text().startswith("the command\nseed 0; ")
    page = (tmp_path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("<img") == len(KINDS) + 1
    for kind in KINDS:
        assert (tmp_path / f"contact_sheet_{kind}.png").stat().st_size > 10_000
        for arm in arms(kind, apart=True):
            assert (tmp_path / kind / arm.folder / "adapter_config.json").is_file()
            assert (tmp_path / kind / arm.folder / "predictions.jsonl").is_file()
    alone = json.loads((tmp_path / "image+audio" / "epalm_pt-audio-alone" / "adapter_config.json").read_text())
    assert set(alone["encoders"]) == {"audio"}
    assert {what.split()[0] for what, _, _ in told} == set(KINDS)


@pytest.mark.slow
def test_workers_change_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    budgets = {"image": Budget(things=8, steps=3)}
    for workers in (1, 2):
        run(tmp_path / str(workers), budgets, 0, "", lambda *what: None, held_out=12, workers=workers)
    one, two = (
        [row | {"seconds": 0} for row in json.loads((tmp_path / workers / "results.json").read_text())]
        for workers in ("1", "2")
    )
    assert one == two
    files = (tmp_path / workers / "image" / "epalm_pt" / "adapter_model.safetensors" for workers in ("1", "2"))
    assert len({file.read_bytes() for file in files}) == 1
