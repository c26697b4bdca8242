"""What stands in the boxes of a picture: kind, title, small lines, tooltip. The same for all views.

`Content` (node.py) is a box that has no place yet. `ContentBuilder` (builder.py) makes it for an operation, an array, a
parameter or a loss of a recorded graph; `RowContent` (rows.py), which is a builder too, also for the rows of the table
that the unrolled view shows: cells, layers, inputs, first states.

    builder = ContentBuilder(graph, flow, subscript="_{t}")
    content = builder.operation(op)            # also .loss, .parameter, .parameters, .data, .attribute
    content.size(), content.at("n1", x, y)       # (width, height); a Box of the scene

This folder reads model/ and scene/, and knows no layout.
"""
