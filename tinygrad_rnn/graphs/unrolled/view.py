"""The unrolled view: time from left to right, one column for each step.

Inputs stand at the bottom of a column, losses at its top, layers between them as rows; the states run through the rows
as straight belts. A parameter is drawn once, below, on a bus that leads to every step: the line to a step is as thick
as the gradient that this step adds, the bus as thick as what has come together so far.
"""

from __future__ import annotations

from itertools import pairwise

from ...pictures.layout.content import Content
from ...pictures.scene.scene import Label, Region, Scene
from ...pictures.scene.text import text_width
from ..content.rows import RowContent
from ..model.blocks import Block, Link, find_blocks
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.options import Options
from ..model.table import Row, make_table, shown_times
from .belts import Belts
from .board import Board
from .buses import find_buses, plan_buses, width_below
from .grid import BELT, CUT_GAP, ELISION, MARGIN, make_grid
from .heads import Heads
from .opened import Opener
from .pen import Pen
from .windows import draw_borders, draw_regions


def unrolled(graph: Graph, flow: Flow | None, options: Options) -> Scene:
    """Return the unrolled view of a recurrent graph; steps are counted from 1.

    Args:
        graph: the graph.
        flow: the gradient to draw, or None.
        options: `steps` chooses the columns, `depth` 2 opens the cells, `title` and `note` are set above.

    Raises:
        DrawingError: if `options.steps` names a step that does not exist.
    """
    return _Unrolled(graph, flow, options).scene()


class _Unrolled:
    def __init__(self, graph: Graph, flow: Flow | None, options: Options) -> None:
        blocks = find_blocks(graph)
        table = make_table(graph, blocks)
        # Of opened cells, unless somebody asks for more, the first and the last are shown.
        steps = 2 if options.steps is None and options.depth == 2 else options.steps
        content = RowContent(graph, flow, blocks, table)
        self.options = options
        self.board = Board(
            graph, flow, blocks, table, content, shown_times(table.times, steps), Pen(Scene("", ""), graph, flow)
        )
        self.heads = Heads(self.board)
        self.buses = find_buses(graph, blocks, table)
        self.opener = Opener(graph, flow, blocks, table) if options.depth == 2 else None
        self.board.grid = make_grid(
            content,
            self.board.shown,
            hidden=[row for row in table.rows if row.role == "wide" and self.heads.merged(row.block) is not None],
            fed=[{table.row_of[head] for head in bus.heads} for bus in self.buses],
            gaps=self._gaps(),
            start=self._start_width(),
            head=self.heads.height,
            sizes=self._opened_sizes(),
            least=width_below(self.buses, content),
        )
        self.board.pen.lane_room = self.board.grid.lane_room

    def _opened_sizes(self) -> dict[Row, tuple[float, float]]:
        sizes: dict[Row, tuple[float, float]] = {}
        if self.opener is not None:
            for row in self.board.table.rows:
                if row.role == "cell":
                    made = [self.opener.interior(row, time) for time in self.board.shown if time in row.blocks]
                    sizes[row] = max(part.width for part in made), max(part.height for part in made)
        return sizes

    def _gaps(self) -> dict[tuple[int, int], float]:
        gaps: dict[tuple[int, int], float] = {}
        for before, behind in pairwise(self.board.shown):
            hidden = self.board.table.times.index(behind) - self.board.table.times.index(before) - 1
            marked = any(link.cuts and set(self.board.ends(link)) == {before, behind} for link in self.board.belts)
            gaps[before, behind] = ELISION if hidden else CUT_GAP if marked else BELT
        return gaps

    def _start_width(self) -> float:
        widths = [0.0]
        for row in self.board.table.rows:
            label = self._row_label(row)
            if label:
                widths.append(text_width(label, 9))
            slots = self.board.first_states(row)
            if slots and not row.backward:
                widths.append(self.board.content.start(row, slots).size()[0])
        return max(widths)

    def _row_label(self, row: Row) -> str:
        if row.role not in ("cell", "layer"):
            return ""
        block = next(iter(row.blocks.values()))
        name = ".".join(block.kind.scope)
        made = self.board.content.maker(row) if row.role == "cell" else ""
        return " · ".join(part for part in (name, made, "backward" if row.backward else "") if part)

    def scene(self) -> Scene:
        """Return the picture."""
        board = self.board
        draw_regions(board, bool(self.heads.totals))
        self._draw_boxes()
        harness = plan_buses(board.pen, board.content, board.grid, board.table, self.buses, board.box)
        board.pen.want({("link", link): link.uses for link in board.blocks.links})
        board.pen.measure()
        harness.draw()
        self._draw_ups()
        Belts(board).draw()
        draw_borders(board)
        self.heads.draw()
        self._draw_insides()
        self._finish(board.scene, harness.bottom, harness.right)
        return board.scene

    def _draw_boxes(self) -> None:
        grid = self.board.grid
        for row in grid.table.rows:
            if row.role == "wide":
                if self.heads.merged(row.block) is None:
                    left, right = self.board.grid.span(row)
                    self._box(
                        row.block, self.board.content.of(row, -1), (left + right) / 2, row.y, right - left, row.height
                    )
                continue
            for time in self.board.shown:
                if row.role == "input" and time in row.inputs:
                    x = grid.x[time] + row.offset
                    name = f"x{row.key[1]}_{time + 1}"  # type: ignore[index]
                    self.board.pen.box(name, self.board.content.of(row, time), x, row.y, row.width, row.height)
                elif time in row.blocks:
                    block = row.blocks[time]
                    content = self.board.content.of(row, time)
                    total = self.heads.in_step(block)
                    if total is not None:
                        content = self.board.content.total(total)
                    x = grid.x[time] + row.offset
                    if self.opener is None or row.role != "cell":
                        self._box(block, content, x, row.y, row.width, row.height)
                        continue
                    area = Region(f"cell{len(self.board.box)}", x, row.y, row.width, row.height, "cell")
                    self.board.pen.scene.regions.append(area)
                    self._box(block, self.board.content.frame(row, time), x, row.y, row.width, row.height)

    def _box(self, block: Block, content: Content, x: float, y: float, width: float, height: float) -> None:
        name = f"n{self.board.graph.number[block.nodes[0]]}"
        self.board.box[block] = self.board.pen.box(name, content, x, y, width, height, block.nodes)

    def _draw_ups(self) -> None:
        for link in self.board.blocks.links:
            if link.tail is None or link.head is None or self.board.is_belt(link):
                continue
            low, high = self.board.table.row_of[link.tail], self.board.table.row_of[link.head]
            if low is high or (low, high) not in self.board.grid.routes:
                continue
            merged = self.heads.merged(link.head)
            if merged is not None or link.tail not in self.board.box or link.head not in self.board.box:
                continue
            self._up(link, low, high)
        for low, high in self.board.table.pairs:
            if low.role == "input":
                for time in self.board.shown:
                    if time in low.inputs and time in high.blocks and high.blocks[time] in self.board.box:
                        tail = self.board.pen.by_id[f"x{low.key[1]}_{time + 1}"]  # type: ignore[index]
                        head = self.board.box[high.blocks[time]]
                        points = self.board.grid.up(low, high, self.board.grid.x[time], self.board.grid.x[time])
                        self.board.pen.edge(tail, head, points, None, high.blocks[time].nodes)

    def _up(self, link: Link, low: Row, high: Row) -> None:
        assert link.tail is not None
        assert link.head is not None
        times = self.board.table.time(link.tail), self.board.table.time(link.head)
        middle = [self.board.grid.x[time] if time is not None else None for time in times]
        spot = next((x for x in middle if x is not None), (sum(self.board.grid.span()) / 2))
        points = self.board.grid.up(low, high, spot, spot)
        self.board.pen.passage(
            self.board.box[link.tail], self.board.box[link.head], points, self.board.magnitude(link), link, small=True
        )

    def _draw_insides(self) -> None:
        """Draw the operations of opened cells."""
        for row in self.board.table.rows:
            if self.opener is not None and row.role == "cell":
                for time in self.board.shown:
                    if time in row.blocks:
                        heights = [self.board.slot_y(row, slot) for slot in range(len(row.slots))]
                        self.opener.draw(self.board.pen, row, time, self.board.box[row.blocks[time]], heights)

    def _finish(self, scene: Scene, bottom: float, width: float) -> None:
        for row in self.board.table.rows:
            label = self._row_label(row)
            if not label:
                continue
            slots = self.board.first_states(row)
            y = row.y
            if slots and not row.backward:
                y -= self.board.content.start(row, slots).size()[1] / 2 + 9
            scene.labels.append(Label(MARGIN, y, label, "start", 9.0))
        scene.title = self.options.title or self._title()
        scene.subtitle = " · ".join(self._facts())
        right = max([width, *(box.x + box.width / 2 for box in scene.boxes)])
        right = max([right, *(region.x + region.width / 2 for region in scene.regions)])
        wide = max(text_width(scene.title, 19, True), text_width(scene.subtitle, 11))
        scene.width = max(right, MARGIN + wide) + MARGIN
        scene.height = bottom + MARGIN
        self.board.pen.light(
            {
                **{f"loss{number + 1}": [self.board.graph.losses[number]] for number in self.heads.totals},
                **{
                    self.board.box[block].id: [place]
                    for terms in self.board.blocks.terms
                    for place in terms
                    if (block := self.board.blocks.of.get(place[0])) in self.board.box and block is not None
                },
            }
        )

    def _title(self) -> str:
        cells = [self.board.content.maker(row) for row in self.board.table.rows if row.role == "cell"]
        named = [name for name in dict.fromkeys(cells) if name]
        counted = [f"{cells.count(name)} × {name}" if cells.count(name) > 1 else name for name in named]
        return f"{' and '.join(counted)}, unrolled" if counted else "Unrolled graph"

    def _facts(self) -> list[str]:
        times = self.board.table.times
        hidden = len(times) - len(self.board.shown)
        facts = [f"{len(times)} step{'s' * (len(times) != 1)}" + (f", {hidden} not shown" if hidden else "")]
        states = [place for block in self.board.blocks.blocks for place in block.states]
        if states:
            shape = states[0][0].specs[states[0][1]].shape
            sizes = {place[0].specs[place[1]].shape[-1:] for place in states}
            if len(shape) == 2:
                facts += [f"batch {shape[0]}"] + ([f"hidden {shape[1]}"] if len(sizes) == 1 else [])
        count = sum(parameter.size for parameter in self.board.graph.parameters)
        facts.append(f"{count:,} parameters")
        if self.options.note:
            facts.append(self.options.note)
        return facts
