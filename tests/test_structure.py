"""What holds for the layout beyond the contracts of import-linter, which `make check` runs."""

from __future__ import annotations

from tests.support import import_graph
from tests.support.paths import REPOSITORY


def test_no_test_module_imports_another() -> None:
    graph = import_graph.modules("tests")
    own = {module for module in graph if module.startswith(("tests.test_", "tests.conftest"))}
    assert {importer: set(imported) & own for importer, imported in graph.items() if set(imported) & own} == {}


def test_the_floors_of_rooms_are_few_and_no_module_imports_in_a_circle() -> None:
    graph = import_graph.modules("diarserve", "workers")
    assert import_graph.circle(graph) is None
    rooms = import_graph.floors(import_graph.rooms(graph))
    assert max(rooms.values()) <= 12  # 11 when the rooms were made; before them 23, one for every few modules


def test_modules_are_short_enough_to_be_read_at_once() -> None:
    files = [file for package in ("diarserve", "workers") for file in (REPOSITORY / package).rglob("*.py")]
    files += (REPOSITORY / "diarserve" / "http" / "web").glob("*.js")
    lines = {str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines()) for file in files}
    assert {name: count for name, count in lines.items() if count > 300} == {}
