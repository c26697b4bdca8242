"""Derivative rules written by hand, right (fault "") and with one fault each, for the checker to find.

Every function makes a primitive (or a policy) with the named fault planted in its backward; going forward all are
right, and complex arrays pass through them, as they do through the primitives of the package.
"""

import numpy as np

import tinygrad_rnn as tr

LSTM_FAULTS = (
    "dh lost after 3 steps",
    "transposed Wh",
    "missing tanh' factor",
    "bias summed over the units too",
    "i and f swapped",
    "averaged instead of summed over time",
    "state gradient of c dropped",
    "wrong first step",
    "wrong last step",
    "relative error 1e-4 in dWx",
    "relative error 1e-7 in dWx",
    "float32 accumulation",
    "tanh' in place of sigmoid'",
)
RNN_FAULTS = (
    "1 - h in place of 1 - h*h",
    "dWh from the new state",
    "db averaged over the batch",
    "sign of Wx lost in dx",
)
GRU_FAULTS = ("bh left out of dr", "1 - z missing", "dh past the gate dropped", "r missing in dbh")
TAKE_FAULTS = ("row counted once when it occurs twice", "last row lost", "negative ids counted from the front")
CUT_FAULTS = ("scale ignored", "scale applied twice")
CHUNK_FAULTS = ("closed one edge late",)
WINDOW_FAULTS = ("h counts edges",)
LOSS_FAULTS = ("averaged over the batch only", "masked positions counted", "masked positions push", "one-hot lost")


def lstm(fault=""):
    """LSTM over a whole sequence as one primitive: (xs (N, T, D), h, c, Wx, Wh, b) -> (outputs, last h, last c)."""

    def forward(xs, h, c, Wx, Wh, b):
        steps = []
        for t in range(xs.shape[1]):
            a = xs[:, t] @ Wx + h @ Wh + b
            i, f, o = np.split(tr.sigmoid(a[:, : 3 * h.shape[1]]), 3, axis=1)
            g = np.tanh(a[:, 3 * h.shape[1] :])
            old = (h, c)
            c = f * c + i * g
            h = o * np.tanh(c)
            steps.append((*old, i, f, o, g, c, h))
        return steps

    @tr.primitive(multiple=True)
    def lstm(xs, h, c, Wx, Wh, b, /):
        steps = forward(xs, h, c, Wx, Wh, b)
        return np.stack([step[-1] for step in steps], axis=1), steps[-1][-1], steps[-1][-2]

    @lstm.rule(keep="xs h c Wx Wh b")
    def _(cotangents, y, xs, h, c, Wx, Wh, b):
        dys, dh, dc = cotangents
        (N, T, _), H = xs.shape, h.shape[1]
        dxs, db = np.zeros(xs.shape), np.zeros(b.shape)
        dWx = np.zeros(Wx.shape, np.float32 if fault == "float32 accumulation" else np.float64)
        dWh = np.zeros(Wh.shape)
        if fault == "state gradient of c dropped":
            dc = np.zeros_like(dc)
        for t, (h_old, c_old, i, f, o, g, c_new, _) in reversed(list(enumerate(forward(xs, h, c, Wx, Wh, b)))):
            if fault == "dh lost after 3 steps" and T - 1 - t == 3:
                dh = np.zeros_like(dh)
            dh = dh + dys[:, t]
            squashed = np.tanh(c_new)
            dc = dc + dh * o * (1 if fault == "missing tanh' factor" else 1 - squashed * squashed)
            if fault == "wrong first step" and t == 0:
                h_old = np.zeros_like(h_old)
            if fault == "wrong last step" and t == T - 1:
                c_old = c_new
            di = dc * g * (1 - i * i if fault == "tanh' in place of sigmoid'" else i * (1 - i))
            df = dc * c_old * f * (1 - f)
            if fault == "i and f swapped":
                di, df = df, di
            da = np.concatenate([di, df, dh * squashed * o * (1 - o), dc * i * (1 - g * g)], axis=1)
            dxs[:, t] = da @ Wx.T
            dWx += (xs[:, t].T @ da).astype(dWx.dtype)
            dWh += h_old.T @ da
            if fault == "bias summed over the units too":
                db += np.repeat(da.reshape(N, 4, H).sum(axis=(0, 2)), H)
            else:
                db += da.sum(axis=0)
            if fault == "transposed Wh":
                dh = np.sum([part @ W for part, W in zip(*(np.split(m, 4, 1) for m in (da, Wh)), strict=True)], axis=0)
            else:
                dh = da @ Wh.T
            dc = dc * f
        if fault == "averaged instead of summed over time":
            dWx /= T
        if fault.startswith("relative error"):
            dWx *= 1 + float(fault.split()[2])
        return dxs, dh, dc, dWx.astype(np.float64), dWh, db

    return lstm


def rnn(fault=""):
    """One step of the Elman cell as one primitive: (x (N, D), h, Wx, Wh, b) -> new h."""

    @tr.primitive()
    def rnn(x, h, Wx, Wh, b, /):
        return np.tanh(x @ Wx + h @ Wh + b)

    @rnn.rule(keep="y x h Wx Wh")
    def _(g, y, x, h, Wx, Wh, b):
        da = g * (1 - y if fault == "1 - h in place of 1 - h*h" else 1 - y * y)
        db = da.mean(axis=0) if fault == "db averaged over the batch" else da.sum(axis=0)
        dx = da @ (abs(Wx) if fault == "sign of Wx lost in dx" else Wx).T
        return dx, da @ Wh.T, x.T @ da, (y if fault == "dWh from the new state" else h).T @ da, db

    return rnn


def gru(fault=""):
    """One step of the GRU (reset after) as one primitive: (x, h, Wx, Wh, b, bh) -> new h."""

    def forward(x, h, Wx, Wh, b, bh):
        H = h.shape[1]
        ax, ah = x @ Wx + b, h @ Wh
        r, z = np.split(tr.sigmoid(ax[:, : 2 * H] + ah[:, : 2 * H]), 2, axis=1)
        return r, z, np.tanh(ax[:, 2 * H :] + r * (ah[:, 2 * H :] + bh)), ah[:, 2 * H :]

    @tr.primitive()
    def gru(x, h, Wx, Wh, b, bh, /):
        _, z, n, _ = forward(x, h, Wx, Wh, b, bh)
        return (1 - z) * n + z * h

    @gru.rule(keep="x h Wx Wh b bh")
    def _(g, y, x, h, Wx, Wh, b, bh):
        r, z, n, product = forward(x, h, Wx, Wh, b, bh)
        dn = g * (1 if fault == "1 - z missing" else 1 - z) * (1 - n * n)
        dr = dn * (product if fault == "bh left out of dr" else product + bh) * r * (1 - r)
        dz = g * (h - n) * z * (1 - z)
        dax = np.concatenate([dr, dz, dn], axis=1)
        dah = np.concatenate([dr, dz, dn * r], axis=1)
        dh = dah @ Wh.T + (0 if fault == "dh past the gate dropped" else g * z)
        dbh = (dn if fault == "r missing in dbh" else dn * r).sum(axis=0)
        return dax @ Wx.T, dh, x.T @ dax, h.T @ dah, dax.sum(axis=0), dbh

    return gru


def take(fault=""):
    """Embedding lookup as one primitive: (W (V, D), ids=) -> rows."""

    @tr.primitive()
    def take(W, /, ids):
        return np.take(W, ids, axis=0)

    @take.rule()
    def _(g, y, W, *, ids):
        dW = np.zeros(W.shape)
        if fault == "row counted once when it occurs twice":
            dW[ids] += g
        else:
            np.add.at(
                dW, np.where(ids < 0, -1 - ids, ids) if fault == "negative ids counted from the front" else ids, g
            )
        if fault == "last row lost":
            dW[-1] = 0
        return (dW,)

    return take


def cut(fault=""):
    """Graph cut as one primitive: (h, scale=) -> h, the tangent of complex arrays scaled."""

    @tr.primitive()
    def cut(h, /, scale):
        return h.real + 1j * scale * h.imag if np.iscomplexobj(h) else h + 0.0

    @cut.rule()
    def _(g, y, h, *, scale):
        return (g * {"scale ignored": 1, "scale applied twice": scale * scale}.get(fault, scale),)

    return cut


class CutLate(tr.Chunked):
    """Chunks of n steps whose cut is carried out one edge late."""

    grain = 1

    def scale(self, edge, end):
        return super().scale(edge - 1, end) if edge > 1 else 1.0

    def mask(self, T):
        return tr.Chunked(self.n).mask(T)


class WindowOffByOne(tr.Windowed):
    """Windows of h uses that are carried out as h edges, as other libraries count."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "reach", self.h + 1)

    def scale(self, edge, end):
        return tr.Windowed(self.h + 1).scale(edge, end)

    def mask(self, T):
        return tr.Windowed(self.h).mask(T)


def cross_entropy(fault=""):
    """Mean cross-entropy as one primitive: (logits (N, T, V), targets=, -1 where masked) -> nats."""

    @tr.primitive()
    def cross_entropy(logits, /, targets):
        picked = np.take_along_axis(logits, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
        nats = np.log(np.exp(logits).sum(axis=-1)) - picked
        return np.where(targets >= 0, nats, 0).sum() / np.count_nonzero(targets >= 0)

    @cross_entropy.rule(keep="logits")
    def _(g, y, logits, *, targets):
        kept = targets >= 0
        p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        if fault != "one-hot lost":
            p = p - (np.arange(logits.shape[-1]) == targets[..., None])
        if fault != "masked positions push":
            p = p * kept[..., None]
        count = np.count_nonzero(kept)
        if fault == "averaged over the batch only":
            count = len(targets)
        if fault == "masked positions counted":
            count = targets.size
        return (g * p / count,)

    return cross_entropy
