"""no_grad and its like, as statements and as decorators of everything that can be called."""

import asyncio
import threading

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tape import context

MODES = {
    "no_grad": (tr.no_grad, lambda: not context().recording),
    "anomaly_mode": (tr.anomaly_mode, lambda: context().anomaly),
    "scope": (lambda: tr.scope("layer"), lambda: context().scope[-1:] == ("layer",)),
    "at_step": (lambda: tr.at_step(3), lambda: context().step == 3),
}
modes = pytest.mark.parametrize(("make", "inside"), MODES.values(), ids=MODES)


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = context()
    yield
    assert context() is before


@modes
def test_one_object_is_used_twice_and_within_itself(make, inside):
    mode = make()
    for _ in range(2):
        with mode:
            assert inside()
            with mode:
                assert inside()
            assert inside()
        assert not inside()


@modes
def test_a_function_and_a_method_again_and_again(make, inside):
    mode = make()

    class Holder:
        @mode
        def method(self, depth):
            """Text."""
            return inside() and (depth == 0 or self.method(depth - 1))

    for _ in range(2):
        assert Holder().method(3)
        assert not inside()
    assert Holder.method.__name__ == "method"
    assert Holder.method.__doc__ == "Text."


@modes
def test_methods_that_are_bound_to_the_class_or_to_nothing(make, inside):
    class Holder:
        @make()
        @staticmethod
        def alone(x):
            return inside(), x

        @make()
        @classmethod
        def of_class(cls, x):
            return inside(), x

        @staticmethod
        @make()
        def below(x):
            return inside(), x

    for holder in (Holder, Holder()):
        assert holder.alone(1) == holder.of_class(1) == holder.below(1) == (True, 1)


@modes
def test_a_generator_is_inside_and_its_reader_is_not(make, inside):
    @make()
    def numbers(n):
        got = []
        try:
            for k in range(n):
                assert inside()
                try:
                    got.append((yield k))
                except KeyError:
                    got.append("thrown")
            return got
        finally:
            assert inside()

    for k in numbers(3):
        assert k in range(3)
        assert not inside()

    talk = numbers(3)
    assert next(talk) == 0
    assert talk.send("sent") == 1
    assert talk.throw(KeyError()) == 2
    assert not inside()
    with pytest.raises(StopIteration) as end:
        talk.send("last")
    assert end.value.value == ["sent", "thrown", "last"]

    def outer():
        return (yield from numbers(2))

    assert list(outer()) == [0, 1]
    first = numbers(2)
    next(first)
    first.close()  # runs `finally`
    assert not inside()
    failing = numbers(2)
    next(failing)
    with pytest.raises(ZeroDivisionError):
        failing.throw(ZeroDivisionError())
    assert not inside()


def test_a_generator_keeps_what_it_set_itself():
    x = tr.tensor([1.0], requires_grad=True)

    @tr.no_grad()
    def results():
        yield x * 2
        with tr.enable_grad():
            yield x * 2
            yield x * 2
        yield x * 2

    seen = []
    for y in results():
        seen.append((y.requires_grad, (x * 2).requires_grad))
    assert seen == [(False, True), (True, True), (True, True), (False, True)]


def test_generators_take_turns():
    @tr.scope("a")
    def a():
        while True:
            yield context().scope

    @tr.scope("b")
    def b():
        while True:
            yield context().scope

    with tr.scope("model"):
        ones, others = a(), b()
        for _ in range(3):
            assert [next(ones), next(others), context().scope] == [("model", "a"), ("model", "b"), ("model",)]


@modes
def test_coroutines_and_asynchronous_generators(make, inside):
    mode = make()

    @mode
    async def work(delay):
        await asyncio.sleep(delay)
        assert inside()
        return 7

    @mode
    async def items():
        try:
            for k in range(3):
                await asyncio.sleep(0)
                assert inside()
                try:
                    yield k
                except KeyError:
                    yield "thrown"
        finally:
            assert inside()

    async def main():
        assert await work(0) == 7
        assert not inside()
        assert await asyncio.gather(work(0.002), work(0.001)) == [7, 7]
        seen = []
        async for k in items():
            assert not inside()
            seen.append(k)
        stopped = items()
        assert await anext(stopped) == 0
        assert await stopped.athrow(KeyError()) == "thrown"
        await stopped.aclose()
        assert not inside()
        return seen

    assert asyncio.run(main()) == [0, 1, 2]


@modes
def test_threads_share_an_object_and_not_what_it_sets(make, inside):
    mode, gate, seen = make(), threading.Barrier(2, timeout=10), []

    def work(enters):
        for _ in range(3):
            gate.wait()
            if enters:
                with mode:
                    gate.wait()
                    seen.append(inside())
                    gate.wait()
            else:
                gate.wait()
                seen.append(not inside())
                gate.wait()

    threads = [threading.Thread(target=work, args=(enters,)) for enters in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 6


def test_a_generator_that_another_thread_closes_changes_nothing_there():
    def left_open():
        with tr.no_grad():
            yield

    left, seen = left_open(), []
    opened = threading.Thread(target=lambda: next(left))
    opened.start()
    opened.join()
    closed = threading.Thread(target=lambda: (left.close(), seen.append(context().recording)))
    closed.start()
    closed.join()
    assert seen == [True]


@modes
def test_an_error_ends_it(make, inside):
    mode = make()

    def fails():
        with mode:
            assert inside()
            raise ZeroDivisionError

    for function in (fails, mode(fails)):
        with pytest.raises(ZeroDivisionError):
            function()
        assert not inside()


def test_a_class_is_not_decorated():
    with pytest.raises(tr.ConfigError, match="decorate the methods of a class one by one"):
        tr.no_grad()(type("Holder", (), {}))
    with pytest.raises(tr.ConfigError, match=r"expected a function, got tensor\(3"):
        tr.no_grad()(tr.tensor(3.0))
    with pytest.raises(tr.ConfigError, match="scope: name must be a str, got 3"):
        tr.scope(3)


def test_a_decorated_function_compiles():
    w = tr.tensor([2.0], requires_grad=True)

    @tr.no_grad()
    def frozen(x):
        return x * x

    @tr.compile
    def step(w):
        return tr.grad(np.sum(frozen(w) * w), w)

    assert step(w) == 4
