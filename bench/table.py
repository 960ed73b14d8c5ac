"""What a bench is asked for, and what it finds."""

from collections.abc import Callable, Sequence

from msgspec import Struct

Cell = str | float | bool | None
Step = Callable[[], None]
"""Called after each part of a bench, for the progress bar."""


class Plan(Struct, frozen=True):
    """How much is measured.

    Attributes:
        rounds: how often each figure is taken; the table shows the median.
        sink_calls: large `write` calls in a round.
        commits: of each size.
        load_s: how long each HTTP load lasts.
        samples: freshness while idle, how often.
        fresh_load_s: how long the load lasts under which freshness is taken.
        idle_s: from a start until its memory is looked at.
    """

    rounds: int = 3
    sink_calls: int = 40
    commits: int = 300
    load_s: int = 5
    samples: int = 20
    fresh_load_s: int = 10
    idle_s: float = 5.0


class Table(Struct, frozen=True):
    """Figures as they were measured, rounded for print only; `note` says what a reader must know to judge them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str

    def text(self) -> str:
        """As Markdown that reads well as it is."""
        parts = [f"### {self.title}", self.note]
        if self.rows:
            cells = [self.columns, *([_text(cell) for cell in row] for row in self.rows)]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            cells.insert(1, ["-" * width for width in widths])
            padded = [map(str.ljust, row, widths) for row in cells]
            parts.insert(1, "\n".join(f"| {' | '.join(row)} |" for row in padded))
        return "\n\n".join(parts)


def at_least(target: float | None, value: float, unit: str = "") -> tuple[Cell, Cell]:
    """The cells of the columns "target" and "met?"; empty where nothing is asked for."""
    return (None, None) if target is None else (f"≥ {_text(target)}{unit}", value >= target)


def below(target: float, value: float, unit: str) -> tuple[Cell, Cell]:
    """The same, for what must stay small."""
    return f"< {_text(target)} {unit}", value < target


def _text(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if cell is None or isinstance(cell, str):
        return cell or ""
    return f"{cell:,.0f}" if isinstance(cell, int) or cell >= 100 else f"{cell:.3g}"
