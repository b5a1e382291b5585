"""How many floors the packages stand on, and which circles their imports make: `python -m tests.support.import_graph`.

The graph is grimp's, which import-linter uses. A module's floor is one above the highest that it imports; those that
import none of ours stand on the first. Imports for types alone count as any other.
"""

from __future__ import annotations

import graphlib
import sys
from collections.abc import Iterable, Mapping

import grimp

Graph = Mapping[str, Iterable[str]]  # who imports whom


def modules(*packages: str) -> Graph:
    """Every module of the packages, without empty __init__ files, and what it imports of them."""
    graph = grimp.build_graph(*packages, include_external_packages=False)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def rooms(graph: Graph) -> Graph:
    """The packages in place of their modules; a module directly in a top-level package is its own room."""
    packages: dict[str, set[str]] = {}
    for module, imported in graph.items():
        packages.setdefault(_room(module), set()).update({_room(other) for other in imported} - {_room(module)})
    return packages


def circle(graph: Graph) -> list[str] | None:
    """One circle, if there is any."""
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found
    return None


def floors(graph: Graph) -> dict[str, int]:
    """The floor of each. Raises CycleError."""
    found: dict[str, int] = {}
    for module in graphlib.TopologicalSorter(graph).static_order():
        found[module] = 1 + max((found[other] for other in graph.get(module, ())), default=0)
    return found


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def main() -> None:
    packages = sys.argv[1:] or ["diarserve", "workers"]
    graph = modules(*packages)
    for name, one in (("modules", graph), ("rooms", rooms(graph))):
        if found := circle(one):
            print(f"{len(one)} {name}, a circle: {' > '.join(found)}")
        else:
            floor_of = floors(one)
            print(f"{len(one)} {name} on {max(floor_of.values())} floors, no circle")
            if name == "rooms":
                for floor in range(max(floor_of.values()), 0, -1):
                    print(f"{floor:>4}  {', '.join(sorted(room for room in floor_of if floor_of[room] == floor))}")


if __name__ == "__main__":
    main()
