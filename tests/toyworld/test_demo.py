"""The demo on a shoestring: every cell has its row, and the page stands on its own."""

import json
import re
import shutil
import subprocess

import pytest

from epalm.toyworld.demo import KINDS, Budget, arms, run


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a demo of everything, and what it told of its progress."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("demo")
    told: list[tuple[str, int, int]] = []
    budgets = dict.fromkeys(KINDS, Budget(things=8, steps=3))

    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    run(folder, budgets, 0, "the command", tell, each_alone=True, held_out=12, workers=2)
    return folder, told


@pytest.mark.slow
def test_every_cell_has_its_row(demo):
    folder, told = demo
    rows = json.loads((folder / "results.json").read_text())
    cells = {(row["modality"], row["task"], row["mechanism"]) for row in rows}
    assert len(cells) == len(rows) == 2 * (2 * 3 + 1) + 2  # of two modalities each alone
    assert {kind for kind, _, _ in cells} == set(KINDS)
    for row in rows:
        assert set(row) == {
            "modality", "task", "mechanism", "language_model", "metric", "score", "trained_parameters",
            "trained_share", "seconds",
        }  # fmt: skip
        assert row["language_model"] == "toyworld/lm"
        assert 0 <= row["score"] <= 100
        assert 0 < row["trained_share"] < 0.01 * len(row["modality"].split("+"))
    assert (folder / "settings.txt").read_text().startswith("the command\nseed 0; ")
    for kind in KINDS:
        assert (folder / f"contact_sheet_{kind}.png").stat().st_size > 10_000
        for arm in arms(kind, each_alone=True):
            assert (folder / kind / arm.folder / "adapter_config.json").is_file()
            assert (folder / kind / arm.folder / "predictions.jsonl").is_file()
    alone = json.loads((folder / "image+audio" / "epalm_pt-audio-alone" / "adapter_config.json").read_text())
    assert set(alone["encoders"]) == {"audio"}
    assert {what.split()[0] for what, _, _ in told} == set(KINDS)


@pytest.mark.slow
def test_the_page_needs_no_other_file(demo):
    page = (demo[0] / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("<img") == len(KINDS) + 1


@pytest.mark.slow
def test_a_browser_shows_the_page(demo, tmp_path):
    """Moved away from its folder and without a network: every picture is there, and nothing else is asked for."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium")
    page = (demo[0] / "report.html").read_text()
    look = """<script>addEventListener("load", () => {
        const pictures = [...document.images].map(each => each.naturalWidth > 100 && each.clientWidth > 100);
        const asked = performance.getEntriesByType("resource").map(each => each.name.slice(0, 5));
        const wide = document.documentElement.scrollWidth > innerWidth;
        document.body.innerHTML = "<pre>" + JSON.stringify({pictures, asked, wide}) + "</pre>";
    })</script>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{look}</body>"))
    options = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1200,900"),
        *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000"),
    )
    command = [browser, *options, "--dump-dom", (tmp_path / "page.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    told = json.loads(re.search(r"<pre>(.*?)</pre>", shown).group(1))
    assert told["pictures"] == [True] * (len(KINDS) + 1)
    assert set(told["asked"]) <= {"data:"}
    assert not told["wide"]


@pytest.mark.slow
def test_another_language_model_and_the_default_window(tmp_path):
    pytest.importorskip("matplotlib")
    run(
        tmp_path, {"image": Budget(things=8, steps=3)}, 0, "", lambda *what: None,
        language_model="toyworld/lm_text", default_window=True, held_out=4,
    )  # fmt: skip
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {row["mechanism"] for row in rows} == {"epalm_pt", "text_only", "epalm_pt, default window"}
    assert {row["language_model"] for row in rows} == {"toyworld/lm_text"}
    whole, late = (
        json.loads((tmp_path / "image" / arm / "adapter_config.json").read_text())["adapter"]
        for arm in ("epalm_pt", "epalm_pt-default-window")
    )
    assert [whole[name] for name in ("start", "end", "levels")] == [0, 6, 2]
    assert [late[name] for name in ("start", "end", "levels")] == [4, 5, 1]


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
