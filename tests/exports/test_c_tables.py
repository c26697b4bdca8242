"""Embeddings of few rows in C: the table is multiplied once, when the source is written."""

import re

import c_programs as c
import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.exports.c.freeze import frozen
from tinygrad_rnn.exports.program import program_of


def table(V=8, D=12, seed=0):
    return tr.parameter(np.random.default_rng(seed).standard_normal((V, D)).astype(np.float32))


def left(function, *args, carry=()):
    """Return the names of the calls that are left, and the shapes of the constants that they read."""
    graph = frozen(program_of(c.function_source(function, *args, carry=carry)))
    constants = {value for call in graph.calls for value in call.values() if value.constant is not None}
    return [call.name for call in graph.calls], sorted(value.shape for value in constants)


E, W, U, F = table(), table(12, 20, 1), table(12, 6, 2), table(12, 12, 3)
IDS = np.array([[1, 7, 0]])


def rows(ids):
    return np.take(E, ids, axis=0)


def ids(number):
    return (np.random.default_rng(number).integers(0, 7, 1),)


@pytest.mark.parametrize(
    ("function", "products", "constants"),
    [
        (lambda ids: rows(ids) @ W, 0, [(8, 20)]),
        (lambda ids: np.reshape(rows(ids), (3, 12)) @ W, 0, [(8, 20)]),
        (lambda ids: (rows(ids) @ W, rows(ids) @ U), 0, [(8, 6), (8, 20)]),  # the two tables take less than E, W and U
        (lambda ids: (rows(ids) @ W, np.sum(E)), 0, [(8, 20)]),  # what is made of E alone is a constant too
        (lambda ids: (rows(ids) @ W, rows(ids)), 1, [(8, 12), (12, 20)]),  # the rows themselves are wanted
        (lambda ids: (rows(ids) @ W, np.tanh(rows(ids))), 1, [(8, 12), (12, 20)]),
        (lambda ids: np.take(table(40), ids, axis=0) @ W, 1, [(12, 20), (40, 12)]),  # more rows than W has
        (lambda ids: (rows(ids) @ U, (ids.sum() * np.ones(12, np.float32)) @ U), 1, [(8, 6), (12, 6)]),  # E is not kept
        (lambda ids: (rows(ids) @ F, rows(ids).sum()), 1, [(8, 12), (12, 12)]),
    ],
)
def test_where_a_table_is_multiplied(function, products, constants):
    names, shapes = left(function, IDS)
    assert names.count("matmul") == products
    assert [shape for shape in shapes if len(shape) == 2] == constants


@pytest.mark.sample(1)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_model_of_characters_is_the_same_and_smaller(cell, tmp_path):
    models = {
        "plain": tr.RNNLM(7, 20, 16, np.random.default_rng(0), cell=cell),
        "tied": tr.RNNLM(7, 16, 16, np.random.default_rng(0), cell=cell, tied=True),
        "both": tr.RNNLM(7, 20, 16, np.random.default_rng(0), cell=cell, layers=2),
    }
    sources = {name: c.source_of_module(model) for name, model in models.items()}
    library = c.compiled(tmp_path, sources)
    for name, source in sources.items():
        weights = sum(part.data.nbytes for part in models[name].parameters().values())
        saved = 20 * models["plain"].layers[0].Wx.shape[1] if name != "tied" else models[name].layers[0].Wx.size
        flash = int(re.search(r"FLASH_BYTES (\d+)", (tmp_path / f"{name}.h").read_text())[1])
        assert flash < weights - saved
        assert c.apart(c.CModel(library, name, source), source, ids, 50) <= 3e-6, name
