"""The textbook layers, each with its backward written by hand, in NumPy alone.

This room imports nothing else of the package: it is the oracle that the automatic graph is checked against,
and it is written to be read. Every class keeps the textbook's interface: `params` and `grads` are lists of
arrays in one order, `forward` keeps in `cache` what `backward` will need, and `backward` takes the gradient
of the loss with respect to each output and returns that with respect to each input. In equations, dy stands
for dL/dy, `*` is element-wise, `@` is the matrix product and W' is W transposed.

A good order to read: `base`, `rnn`, `time` (the loop over a window: backpropagation through time), `layers`,
`simple_rnnlm`, then `lstm` and `gru`, and at last `attention` and `seq2seq`.

Examples:
    >>> import numpy as np
    >>> model = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(0))
    >>> ids, targets = np.array([[0, 1, 2]]), np.array([[1, 2, 3]])
    >>> before = model.forward(ids, targets)
    >>> model.backward()
    >>> for param, grad in zip(model.params, model.grads):
    ...     param -= 0.5 * grad
    >>> model.reset_state()
    >>> bool(model.forward(ids, targets) < before)
    True
"""

from tinygrad_rnn.handwritten.attention import Attention as Attention
from tinygrad_rnn.handwritten.attention import AttentionWeight as AttentionWeight
from tinygrad_rnn.handwritten.attention import TimeAttention as TimeAttention
from tinygrad_rnn.handwritten.attention import WeightSum as WeightSum
from tinygrad_rnn.handwritten.gru import GRU as GRU
from tinygrad_rnn.handwritten.gru import TimeGRU as TimeGRU
from tinygrad_rnn.handwritten.layers import TimeAffine as TimeAffine
from tinygrad_rnn.handwritten.layers import TimeEmbedding as TimeEmbedding
from tinygrad_rnn.handwritten.layers import TimeSigmoidWithLoss as TimeSigmoidWithLoss
from tinygrad_rnn.handwritten.layers import TimeSoftmaxWithLoss as TimeSoftmaxWithLoss
from tinygrad_rnn.handwritten.lstm import LSTM as LSTM
from tinygrad_rnn.handwritten.lstm import TimeLSTM as TimeLSTM
from tinygrad_rnn.handwritten.rnn import RNN as RNN
from tinygrad_rnn.handwritten.rnn import TimeRNN as TimeRNN
from tinygrad_rnn.handwritten.seq2seq import Decoder as Decoder
from tinygrad_rnn.handwritten.seq2seq import Encoder as Encoder
from tinygrad_rnn.handwritten.seq2seq import Seq2Seq as Seq2Seq
from tinygrad_rnn.handwritten.simple_rnnlm import SimpleRnnlm as SimpleRnnlm
