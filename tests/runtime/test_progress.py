"""Progress: bars on a terminal, lines elsewhere, nothing where nothing is under way."""

from __future__ import annotations

import pytest

from epalm.runtime.progress import show_progress


def test_lines_for_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as show:
        for step in range(1, 101):
            show(f"training: loss {1 / step:.2f}", step, 100)
        show("answering", 1, 3)
        show("answering", 3, 3)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "training: loss 0.10 (10/100, 0:00:00 left)"
    assert lines[9] == "training: loss 0.01 (100/100)"
    assert lines[10:] == ["answering (1/3)", "answering (3/3)"]


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    with show_progress():
        pass
    assert capsys.readouterr().err == ""

    def stopped() -> None:
        with show_progress() as show:
            show("training: loss 1.00", 1, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    err = capsys.readouterr().err
    assert "training loss 1.00" in err
    assert "\x1b[?25h" in err  # the cursor is back
