"""What is wrong with the geometry of a picture: overlaps, lines through boxes, text outside of the canvas."""

import itertools

import numpy as np

from tinygrad_rnn.pictures.scene.curves import bezier
from tinygrad_rnn.pictures.scene.text import text_width


def _rectangle(box):
    return box.x - box.width / 2, box.y - box.height / 2, box.x + box.width / 2, box.y + box.height / 2


def _meet(a, b, slack=0.5):
    return a[0] < b[2] - slack and b[0] < a[2] - slack and a[1] < b[3] - slack and b[1] < a[3] - slack


def _text(label):
    width = text_width(label.text, label.size, label.strong)
    left = {"start": label.x, "middle": label.x - width / 2, "end": label.x - width}[label.anchor]
    return left, label.y - label.size * 0.4, left + width, label.y + label.size * 0.4


def _points(edge):
    path = np.array(bezier(edge))
    t = np.linspace(0, 1, 25)[:, None]
    pieces = [path[at : at + 4] for at in range(0, len(path) - 1, 3)]
    return np.concatenate(
        [(1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d for a, b, c, d in pieces]
    )


def faults(scene):
    """Yield what is wrong, in words."""
    shapes = {box.id: _rectangle(box) for box in scene.boxes}
    assert len(shapes) == len(scene.boxes), "ids of boxes are not unique"
    for (a, one), (b, other) in itertools.combinations(shapes.items(), 2):
        if _meet(one, other):
            yield f"boxes {a} and {b} overlap"
    texts = [(label.text, _text(label)) for label in scene.labels]
    for text, place in texts:
        for id, shape in shapes.items():
            if _meet(place, shape, 1.0):
                yield f"text {text!r} lies on box {id}"
    for (text, place), (other, there) in itertools.combinations(texts, 2):
        if _meet(place, there, 1.0):
            yield f"texts {text!r} and {other!r} overlap"
    for edge in scene.edges:
        points = _points(edge)
        for id, (left, top, right, bottom) in shapes.items():
            inside = (points > (left + 1.5, top + 1.5)).all(axis=1) & (points < (right - 1.5, bottom - 1.5)).all(axis=1)
            if id not in (edge.tail, edge.head) and inside.any():
                yield f"line {edge.id} from {edge.tail} to {edge.head} runs through box {id}"
    for name, shape in [*shapes.items(), *texts, *((region.id, _rectangle(region)) for region in scene.regions)]:
        if shape[0] < 0 or shape[1] < 0 or shape[2] > scene.width or shape[3] > scene.height:
            yield f"{name} stands outside of the canvas"
    ids = [edge.id for edge in scene.edges]
    if len(set(ids)) < len(ids):
        yield "ids of edges are not unique"
    for edge in scene.edges:
        for end in (edge.tail, edge.head):
            if end and end not in shapes:
                yield f"line {edge.id} ends at {end!r}, which is no box"
