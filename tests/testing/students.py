"""Layers as a student writes them, right, in pieces that a test replaces by wrong ones."""

import numpy as np

from tinygrad_rnn import handwritten as hw


class StudentRNN:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(W) for W in self.params]

    def forward(self, x, h):
        Wx, Wh, b = self.params
        y = np.tanh(x @ Wx + h @ Wh + b)
        self.kept = x, h, y
        return y

    def backward(self, dy):
        Wx, Wh, _ = self.params
        x, h, y = self.kept
        da = self.da(dy, y)
        self.put([self.dWx(x, da), self.dWh(h, da, y), self.db(da)])
        return self.dx(da, Wx), self.dh(da, Wh)

    def put(self, new):
        self.grads = new

    def da(self, dy, y):
        return dy * (1 - y * y)

    def dWx(self, x, da):
        return x.T @ da

    def dWh(self, h, da, y):
        return h.T @ da

    def db(self, da):
        return da.sum(axis=0)

    def dx(self, da, Wx):
        return da @ Wx.T

    def dh(self, da, Wh):
        return da @ Wh.T


class StudentLSTM(StudentRNN):
    def forward(self, x, h, c):
        Wx, Wh, b = self.params
        i, f, o, g = np.split(x @ Wx + h @ Wh + b, 4, axis=1)
        i, f, o, g = *(1 / (1 + np.exp(-a)) for a in (i, f, o)), np.tanh(g)
        new = f * c + i * g
        self.kept = x, h, c, i, f, o, g, new
        return o * np.tanh(new), new

    def backward(self, dy, dnew):
        Wx, Wh, _ = self.params
        x, h, c, i, f, o, g, new = self.kept
        dc = self.dc(dy, dnew, o, new)
        gates = self.gates(
            dc * g * self.ds(i), dc * c * f * (1 - f), dy * np.tanh(new) * o * (1 - o), dc * i * self.dt(g)
        )
        da = np.concatenate(gates, axis=1)
        self.put([self.dWx(x, da), self.dWh(h, da, None), self.db(da)])
        return self.dx(da, Wx), self.dh(da, Wh), self.back(dc, f)

    def dc(self, dy, dnew, o, new):
        return dnew + dy * o * (1 - np.tanh(new) ** 2)

    def ds(self, i):
        return i * (1 - i)

    def dt(self, g):
        return 1 - g * g

    def gates(self, i, f, o, g):
        return i, f, o, g

    def back(self, dc, f):
        return dc * f


class StudentTimeRNN:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(W) for W in self.params]

    def set_state(self, h):
        self.h = h

    def forward(self, xs):
        self.steps, h, hs = [], self.h, []
        for t in range(xs.shape[1]):
            self.steps.append(StudentRNN(*self.params))
            h = self.steps[t].forward(xs[:, t], h)
            hs.append(h)
        return np.stack(hs, axis=1)

    def backward(self, dhs):
        T = dhs.shape[1]
        total, dxs, dh = [np.zeros_like(W) for W in self.params], [], np.zeros_like(dhs[:, 0])
        for t in reversed(range(T)):
            dx, dh = self.steps[t].backward(self.into(dhs[:, t], dh, t, T))
            dxs.append(self.dx(dx, t, T))
            total = [a + self.part(b, k, t, T) for k, (a, b) in enumerate(zip(total, self.steps[t].grads, strict=True))]
        self.dh, self.grads = dh, self.sums(total, T)
        return np.stack(dxs[::-1], axis=1)

    def into(self, dy, dh, t, T):
        return dy + dh

    def dx(self, dx, t, T):
        return dx

    def part(self, dW, k, t, T):
        return dW

    def sums(self, total, T):
        return total


class StudentTimeLSTM(hw.TimeLSTM):
    def backward(self, dhs):
        """As in the base class, but c of step t gets nothing from step t + 1."""
        step, caches, dxs = self.step, self.cache, []
        dh = dc = np.zeros_like(dhs[:, 0])
        self.grads = [np.zeros_like(W) for W in self.params]
        for t in reversed(range(dhs.shape[1])):
            step.cache = caches[t]
            dx, dh, _ = step.backward(dh + dhs[:, t], dc)
            dxs.append(dx)
            self.grads = [a + b for a, b in zip(self.grads, step.grads, strict=True)]
        return np.stack(dxs[::-1], axis=1)


def in_place(self, dy, y):
    dy *= 1 - y * y
    return dy


def piled_up(self, new):
    self.grads = [a + b for a, b in zip(self.grads, new, strict=True)]
