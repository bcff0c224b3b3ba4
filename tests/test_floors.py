"""Rooms import from floors below their own alone, and no two modules import each other, however far around."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import epalm

ROOT = Path(epalm.__file__).parent
FLOORS = (
    {"former_names", "__main__"},
    {"cli"},
    {"toyworld"},
    {"training"},
    {"evaluation"},
    {"recipe"},
    {"tasks"},
    {"models", "data"},
    {"encoders"},
    {"metrics", "runtime"},
    {"media", "settings"},
    {"errors"},
)
"""From the top down."""


@cache
def imports() -> dict[str, set[str]]:
    """Every module but the package itself, and the modules that it imports, anywhere in its text."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "__init__"}
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{each.name}" for each in node.names]
            else:
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for imported in (each.removeprefix("epalm.") for each in names if each.startswith("epalm.")):
                found[name].add(imported if imported in files else imported.rpartition(".")[0])
    return found


def test_imports_go_downward() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    upward = [
        f"{name} imports {imported}"
        for name, modules in imports().items()
        for imported in modules
        if (room := name.partition(".")[0]) != (other := imported.partition(".")[0]) and floor[room] >= floor[other]
    ]
    assert not upward
    assert len(imports()["models.perceptual_lm"]) > 5


def test_no_modules_import_each_other() -> None:
    TopologicalSorter(imports()).prepare()  # which raises where there is a circle
