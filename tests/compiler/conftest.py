"""Fixtures of the compiler's tests."""

import pytest

from tinygrad_rnn.compiler import kernels
from tinygrad_rnn.compiler.passes import chains


@pytest.fixture
def tiny_chains(monkeypatch):
    """Chains of all arrays but single numbers, in blocks of 3 elements."""
    monkeypatch.setattr(chains, "_LARGE", 2)
    monkeypatch.setattr(chains, "_LEAST", 2)
    monkeypatch.setattr(kernels, "_CHAIN_BLOCK", 3)
