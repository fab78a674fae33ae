"""Draws docs/images/architecture.svg, the subpackages and what they import: `python docs/architecture_diagram.py`.

It reads the imports in the source, so the drawing is what the code does. The build of the documentation fails if it is out of date.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "airflow_bifrost"
PICTURE = DOCS / "images" / "architecture.svg"

# Modules that every subpackage may import, or that import every subpackage, would only add lines in all directions.
LEFT_OUT = {"exceptions", "_compat", "provider_info", "__init__", "__main__", "__version__", "testing"}

WIDTH, BOX, HEIGHT, GAP, MARGIN = 760, 128, 40, 52, 24  # pixels

Graph = dict[str, set[str]]


def imports() -> Graph:
    """Each subpackage, with the subpackages that its modules import."""
    graph: Graph = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if package not in LEFT_OUT:
            graph.setdefault(package, set()).update(_imported(path) - {package} - LEFT_OUT)
    return {package: used & graph.keys() for package, used in graph.items()}


def _imported(path: Path) -> set[str]:
    return {parts[1] for name in _names(path) if (parts := name.split("."))[0] == PACKAGE.name and len(parts) > 1}


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reachable(graph: Graph, package: str) -> set[str]:
    """The subpackages that one imports, directly or through others."""
    found: set[str] = set()
    waiting = list(graph[package])
    while waiting:
        if (other := waiting.pop()) not in found:
            found.add(other)
            waiting += graph[other]
    return found


def direct(graph: Graph) -> Graph:
    """The graph without the imports that another path implies: fewer lines that show the same order."""
    beyond = {package: reachable(graph, package) for package in graph}
    return {
        package: {
            used for used in graph[package] if not any(used in beyond[other] for other in graph[package] - {used})
        }
        for package in graph
    }


def floors(graph: Graph) -> list[list[str]]:
    """The subpackages by level. The last level holds those that import nothing."""

    def level(package: str) -> int:
        return 1 + max((level(used) for used in graph[package]), default=-1)

    levels = {package: level(package) for package in graph}
    return [
        sorted(package for package in graph if levels[package] == floor)
        for floor in range(max(levels.values()), -1, -1)
    ]


def places(rows: list[list[str]]) -> dict[str, tuple[int, int]]:
    """The upper left corner of each subpackage's box."""
    return {
        package: ((WIDTH * (2 * column + 1)) // (2 * len(row)) - BOX // 2, MARGIN + number * (HEIGHT + GAP))
        for number, row in enumerate(rows)
        for column, package in enumerate(row)
    }


def line(start: tuple[int, int], end: tuple[int, int]) -> str:
    """An arrow from the lower edge of one box to the upper edge of another."""
    x1, y1 = start[0] + BOX // 2, start[1] + HEIGHT
    x2, y2 = end[0] + BOX // 2, end[1] - 3
    bend = (y1 + y2) // 2 if y2 - y1 <= GAP else y2 - GAP // 2
    return f'<path class="line" marker-end="url(#tip)" d="M{x1} {y1} C{x1} {bend} {x2} {bend} {x2} {y2}"/>'


def box(package: str, place: tuple[int, int]) -> str:
    x, y = place
    return (
        f'<rect class="box" x="{x}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + BOX // 2}" y="{y + HEIGHT // 2 + 5}">{package}</text>'
    )


def picture(graph: Mapping[str, set[str]]) -> str:
    """The drawing, as SVG."""
    shown = direct(dict(graph))
    rows = floors(dict(graph))
    at = places(rows)
    height = 2 * MARGIN + len(rows) * (HEIGHT + GAP) - GAP
    lines = [line(at[package], at[used]) for package in sorted(shown) for used in sorted(shown[package])]
    boxes = [box(package, at[package]) for row in rows for package in row]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    style = (
        "<style>.box{fill:#eef4fb;stroke:#34699a}.line{fill:none;stroke:#7a8899;stroke-width:1.4}"
        "text{font:15px sans-serif;text-anchor:middle;fill:#16324f}</style>"
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#7a8899"/></marker></defs>'
    )
    title = "<title>The subpackages of airflow_bifrost; an arrow points to what a subpackage imports</title>"
    background = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, title, style, tip, background, *lines, *boxes, "</svg>"]) + "\n"


def is_current() -> bool:
    """Whether the drawing is what the code says now."""
    return PICTURE.exists() and PICTURE.read_text() == picture(imports())


if __name__ == "__main__":
    PICTURE.write_text(picture(imports()))
