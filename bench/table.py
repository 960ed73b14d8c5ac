"""What a bench found."""

from collections.abc import Sequence
from itertools import starmap

from msgspec import Struct

Cell = str | int | float | bool | None


class Table(Struct, frozen=True):
    """Figures as they were measured; they are rounded for print only.

    Attributes:
        title: what was measured.
        columns: names, with units.
        rows: as many cells each as there are columns.
        note: what a reader must know, such as what was skipped and why.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def text(self) -> str:
        """As Markdown that reads well as it is."""
        parts = [f"### {self.title}"]
        if self.rows:
            parts.append(_grid([self.columns, *([_text(cell) for cell in row] for row in self.rows)]))
        if self.note:
            parts.append(self.note)
        return "\n\n".join(parts)


def at_least(target: float, value: float, unit: str = "") -> tuple[Cell, Cell]:
    """The cells of the columns "target" and "met?"."""
    return f"≥ {_text(target)}{unit}", value >= target


def below(target: float, value: float, unit: str = "") -> tuple[Cell, Cell]:
    """The same, for what must stay small."""
    return f"< {_text(target)}{unit}", value < target


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    return f"{cell:,.0f}" if isinstance(cell, int) or cell >= 100 else f"{cell:.3g}"


def _grid(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(starmap(str.ljust, zip(row, widths, strict=True))) + " |"
        for row in [rows[0], ["-" * width for width in widths], *rows[1:]]
    ]
    return "\n".join(lines)
