"""Draw who calls whom, and how processes share a batch, with Graphviz: python docs/make_flow_pictures.py."""

from __future__ import annotations

from pathlib import Path

import graphviz

FOLDER = Path(__file__).parent / "pictures" / "flows"
STYLE = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "12"}
BOX = {"shape": "box", "style": "rounded,filled", "fillcolor": "#eef4fb", "color": "#4a6b8a", "margin": "0.15,0.08"}
EDGE = {"color": "#4a6b8a", "arrowsize": "0.8"}

# Calls in order, as (caller, called, what); "<-" marks a result that goes back, "~" a call of what was given.
CALLS = {
    "train": [
        ("commands/train", "training/language/trainer", "LanguageTrainer.run"),
        ("training/language/trainer", "training/runs/trainer", "Trainer.fit"),
        ("training/runs/trainer", "training/loop/epoch", "run_epoch(step, batches, ...)"),
        ("training/loop/epoch", "training/loop/step", "TrainStep.accumulated(batches, state, ...)"),
        ("training/loop/step", "compiler/api", "Compiled(params, moments, batch, ...)"),
        ("compiler/api", "compiler/replay/ready", "Ready.run(leaves)"),
        ("compiler/replay/ready", "compiler/replay/executor", "Executor.run(arrays)"),
        ("compiler/replay/executor", "compiler/native/workers", "Replay(step)"),
        ("compiler/native/workers", "native/source (C)", "records, addresses"),
        ("native/source (C)", "training/loop/step", "<-loss, norm, new parameters, state"),
        ("training/loop/step", "training/loop/epoch", "<-StepResult"),
        ("training/loop/epoch", "training/runs/trainer", "<-EpochResult"),
    ],
    "draw": [
        ("graphs/drawing", "graphs/model", "record, read"),
        ("graphs/model", "graphs/drawing", "<-Graph: nodes, edges, cuts"),
        ("graphs/drawing", "graphs/model", "flow_of(graph)"),
        ("graphs/model", "graphs/drawing", "<-Flow: the graph, and the gradient on each edge"),
        ("graphs/drawing", "graphs/unrolled", "unrolled(flow, options)"),
        ("graphs/unrolled", "graphs/drawing", "<-Scene: boxes, edges, regions with places"),
        ("graphs/drawing", "pictures/export", "write_svg(scene)"),
    ],
    "check_grads": [
        ("testing/gradients", "testing/targets", "build_target"),
        ("testing/gradients", "testing/targets", "evaluate: the gradient under test"),
        ("testing/gradients", "testing/judge", "judged: which oracle"),
        ("testing/judge", "testing/oracles", "ComplexStep.slope"),
        ("testing/oracles", "testing/targets", "~along: the cell on complex numbers"),
        ("testing/judge", "testing/report", "LeafResult"),
        ("testing/gradients", "testing/report", "GradReport"),
    ],
}
NOTES = {
    "compiler/api": "the plan for these shapes",
    "graphs/unrolled": "Parts: rows, columns, losses, parameters\nGrid, Canvas: their places\n"
    "boxes, links, states, ... are drawn",
}


def page(name: str, **options: str) -> graphviz.Digraph:
    """Return an empty picture."""
    graph = graphviz.Digraph(name, graph_attr=STYLE | {"bgcolor": "white", "pad": "0.15"} | options)
    graph.attr("node", **STYLE, **BOX)
    graph.attr("edge", **(STYLE | {"fontsize": "11"}), **EDGE)
    return graph


def calls(name: str) -> graphviz.Digraph:
    """Draw calls, numbered in their order; results go back along dashed grey lines."""
    graph = page(name, rankdir="LR" if name == "draw" else "TB", nodesep="0.4", ranksep="0.35")
    for part in dict.fromkeys(part for caller, called, _ in CALLS[name] for part in (caller, called)):
        graph.node(part, label=f"{part}\n{NOTES[part]}" if part in NOTES else part)
    for number, (caller, called, what) in enumerate(CALLS[name], 1):
        label = f"  {number}. {what.lstrip('<-~')}  "
        if what.startswith("<-"):  # drawn from the other end, so that who is called stays below who calls
            graph.edge(called, caller, label, dir="back", style="dashed", color="#888888", fontcolor="#555555")
        else:
            graph.edge(caller, called, label, style="dashed" if what.startswith("~") else "solid")
    return graph


def processes() -> graphviz.Digraph:
    """Draw two processes that sum their gradients."""
    graph = page("processes", rankdir="LR", nodesep="0.3", ranksep="0.5")
    graph.node("text", "streams 0 ... 79\nof the text")
    graph.node("sum", "sum, MPI", shape="ellipse")
    for number, streams in enumerate(("0 ... 39", "40 ... 79")):
        with graph.subgraph(name=f"cluster_{number}") as process:
            process.attr(label=f"process {number}: streams {streams}", style="rounded", color="#4a6b8a", **STYLE)
            process.node(f"loss{number}", "plan 1: loss, gradients")
            process.node(f"vector{number}", "one vector")
            process.node(f"update{number}", "plan 2: clip, optimizer")
            process.edge(f"loss{number}", f"vector{number}")
        graph.edge("text", f"loss{number}")
        graph.edge(f"vector{number}", "sum")
        graph.edge("sum", f"update{number}")
    return graph


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for picture in [*map(calls, CALLS), processes()]:
        text = picture.pipe(format="svg", encoding="utf-8")
        (FOLDER / f"{picture.name}.svg").write_text(text, encoding="utf-8")
