# SPDX-License-Identifier: GPL-2.0-or-later
"""Text and tables for people: with rich on a terminal, plain everywhere else."""

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from tdxhost.cli.terminal import columns

if TYPE_CHECKING:
    from rich.table import Table as RichTable

GAP = "  "
#: A column that wraps is not made narrower than this.
MIN_FLEX = 16


@dataclass(frozen=True, slots=True)
class Column:
    """A column; those of the highest rank go first when a terminal is narrow.

    Rank 0 always stays. The last column of a table wraps.
    """

    title: str
    right: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A row; bad ones stand out where there is colour."""

    cells: tuple[str, ...]
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = field(default=())

    def keep(self, indexes: Sequence[int]) -> "Table":
        """The table with some of its columns."""
        columns = tuple(self.columns[i] for i in indexes)
        rows = tuple(Row(tuple(row.cells[i] for i in indexes), row.bad) for row in self.rows)
        return Table(self.title, columns, rows)

    def widths(self) -> list[int]:
        """Width that each column wants."""
        lines = [tuple(column.title for column in self.columns), *(row.cells for row in self.rows)]
        return [max(map(len, cells)) for cells in zip(*lines, strict=True)]

    def fit(self, width: int) -> "Table":
        """Leaves out columns until the rest fits, the last one counted as narrow as it goes."""
        table = self
        while _least_width(table) > width:
            ranks = [column.rank for column in table.columns]
            if max(ranks) == 0:
                break
            drop = len(ranks) - 1 - ranks[::-1].index(max(ranks))
            table = table.keep([i for i in range(len(ranks)) if i != drop])
        return table


#: A line of text (empty for a blank one) or a table.
Block = str | Table


def _least_width(table: Table) -> int:
    widths = table.widths()
    words = [word for row in table.rows for word in row.cells[-1].split()]
    # The last column wraps between words, so its longest word has to fit.
    widths[-1] = min(widths[-1], max(MIN_FLEX, *map(len, words), 0))
    return sum(widths) + len(GAP) * (len(widths) - 1)


def plain_lines(table: Table, width: int) -> list[str]:
    """Renders a table as text; the last column wraps at width."""
    table = table.fit(width)
    widths = table.widths()
    room = max(width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1), MIN_FLEX)
    lines = [table.title] if table.title else []
    titles = Row(tuple(column.title for column in table.columns))
    for row in (titles, *table.rows):
        lines += _plain_row(table.columns, row.cells, widths, room)
    return lines


def _lines(block: Block, width: int) -> list[str]:
    return plain_lines(block, width) if isinstance(block, Table) else text_lines(block, width)


def text_lines(text: str, width: int) -> list[str]:
    """Wraps a line of text; what is indented stays so, and a little more."""
    indent = " " * (len(text) - len(text.lstrip()))
    rest = indent + GAP if indent else ""
    wrapped = textwrap.wrap(
        text, width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return wrapped or [""]


def _plain_row(
    columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], room: int
) -> Iterable[str]:
    *fixed, last = cells
    padded = [
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, cell, width in zip(columns, fixed, widths, strict=False)
    ]
    lead = "".join(cell + GAP for cell in padded)
    wide = min(widths[-1], room)
    parts = textwrap.wrap(last, room, break_long_words=False) or [""]
    for number, part in enumerate(parts):
        start = lead if number == 0 else " " * len(lead)
        yield (start + (part.rjust(wide) if columns[-1].right else part)).rstrip()


def show(blocks: Iterable[Block], stream: TextIO | None = None) -> None:
    """Writes blocks to stream (standard output) in the way that suits it."""
    stream = stream or sys.stdout
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        _show_rich(blocks, stream)
    else:
        _show_plain(blocks, stream)


def _show_plain(blocks: Iterable[Block], stream: TextIO) -> None:
    width = columns()
    for block in blocks:
        stream.writelines(f"{line}\n" for line in _lines(block, width))


def _show_rich(blocks: Iterable[Block], stream: TextIO) -> None:
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    for block in blocks:
        if isinstance(block, Table):
            console.print(_rich_table(block.fit(console.width)))
        else:
            for line in text_lines(block, console.width):
                console.print(line, markup=False)


def _rich_table(table: Table) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(
        title=Text(table.title, style="bold") if table.title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, len(GAP), 0, 0),
        header_style="bold",
    )
    for number, column in enumerate(table.columns):
        last = number == len(table.columns) - 1
        made.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            no_wrap=not last,
            overflow="fold",
        )
    for row in table.rows:
        made.add_row(*map(Text, row.cells), style="red" if row.bad else None)
    return made
