"""An autograd micro-framework for recurrent networks on NumPy.

The public interface in one page. Names are imported on first use, so that `import tinygrad_rnn` and
`tinygrad-rnn --help` do not wait for NumPy. (Not related to the project called tinygrad.)

    import tinygrad_rnn as tr
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ConfigError as ConfigError
    from .errors import CorpusError as CorpusError
    from .errors import DTypeError as DTypeError
    from .errors import DivergedError as DivergedError
    from .errors import DrawingError as DrawingError
    from .errors import GradientError as GradientError
    from .errors import GradientWarning as GradientWarning
    from .errors import ModelFileError as ModelFileError
    from .errors import NativeError as NativeError
    from .errors import NonFiniteError as NonFiniteError
    from .errors import ShapeError as ShapeError
    from .errors import TraceError as TraceError
    from .errors import UnsupportedError as UnsupportedError
    from .engine.tape import anomaly_mode as anomaly_mode
    from .engine.tape import at_step as at_step
    from .engine.tape import enable_grad as enable_grad
    from .engine.tape import no_grad as no_grad
    from .engine.tape import scope as scope
    from .engine.tensor import Tensor as Tensor
    from .engine.table import implements as implements
    from .engine.table import supported as supported
    from .engine.tensor import parameter as parameter
    from .engine.tensor import tensor as tensor
    from .engine.primitive import Primitive as Primitive
    from .engine.primitive import primitive as primitive
    from .engine.autograd import grad as grad
    from .engine.transforms import hvp as hvp
    from .engine.transforms import jacobian as jacobian
    from .engine.transforms import jvp as jvp
    from .engine.transforms import vjp as vjp
    from .ops import absolute as absolute
    from .ops import add as add
    from .ops import append as append
    from .ops import arccos as arccos
    from .ops import arccosh as arccosh
    from .ops import arcsin as arcsin
    from .ops import arcsinh as arcsinh
    from .ops import arctan as arctan
    from .ops import arctan2 as arctan2
    from .ops import arctanh as arctanh
    from .ops import array_split as array_split
    from .ops import astype as astype
    from .ops import atleast_1d as atleast_1d
    from .ops import atleast_2d as atleast_2d
    from .ops import atleast_3d as atleast_3d
    from .ops import average as average
    from .ops import binary_cross_entropy as binary_cross_entropy
    from .ops import block as block
    from .ops import broadcast_arrays as broadcast_arrays
    from .ops import broadcast_to as broadcast_to
    from .ops import cbrt as cbrt
    from .ops import ceil as ceil
    from .ops import clip as clip
    from .ops import column_stack as column_stack
    from .ops import concatenate as concatenate
    from .ops import copy as copy
    from .ops import copysign as copysign
    from .ops import cos as cos
    from .ops import cosh as cosh
    from .ops import cross as cross
    from .ops import cross_entropy as cross_entropy
    from .ops import cumprod as cumprod
    from .ops import cumsum as cumsum
    from .ops import cumulative_prod as cumulative_prod
    from .ops import cumulative_sum as cumulative_sum
    from .ops import cut as cut
    from .ops import deg2rad as deg2rad
    from .ops import delete as delete
    from .ops import diag as diag
    from .ops import diagflat as diagflat
    from .ops import diagonal as diagonal
    from .ops import diff as diff
    from .ops import divide as divide
    from .ops import divmod as divmod
    from .ops import dot as dot
    from .ops import dsplit as dsplit
    from .ops import dstack as dstack
    from .ops import einsum as einsum
    from .ops import exp as exp
    from .ops import exp2 as exp2
    from .ops import expand_dims as expand_dims
    from .ops import expm1 as expm1
    from .ops import fabs as fabs
    from .ops import fix as fix
    from .ops import flip as flip
    from .ops import fliplr as fliplr
    from .ops import flipud as flipud
    from .ops import floor as floor
    from .ops import floor_divide as floor_divide
    from .ops import fmax as fmax
    from .ops import fmin as fmin
    from .ops import fmod as fmod
    from .ops import gaussian_nll as gaussian_nll
    from .ops import getitem as getitem
    from .ops import heaviside as heaviside
    from .ops import hsplit as hsplit
    from .ops import hstack as hstack
    from .ops import huber as huber
    from .ops import hypot as hypot
    from .ops import inner as inner
    from .ops import kron as kron
    from .ops import log as log
    from .ops import log10 as log10
    from .ops import log1p as log1p
    from .ops import log2 as log2
    from .ops import log_sigmoid as log_sigmoid
    from .ops import log_softmax as log_softmax
    from .ops import logaddexp as logaddexp
    from .ops import logaddexp2 as logaddexp2
    from .ops import logsumexp as logsumexp
    from .ops import mae as mae
    from .ops import matmul as matmul
    from .ops import matrix_transpose as matrix_transpose
    from .ops import matvec as matvec
    from .ops import max as max
    from .ops import maximum as maximum
    from .ops import mean as mean
    from .ops import median as median
    from .ops import min as min
    from .ops import minimum as minimum
    from .ops import modf as modf
    from .ops import moveaxis as moveaxis
    from .ops import mse as mse
    from .ops import multi_dot as multi_dot
    from .ops import multiply as multiply
    from .ops import nan_to_num as nan_to_num
    from .ops import nanmean as nanmean
    from .ops import nanstd as nanstd
    from .ops import nansum as nansum
    from .ops import nanvar as nanvar
    from .ops import negative as negative
    from .ops import norm as norm
    from .ops import outer as outer
    from .ops import pad as pad
    from .ops import power as power
    from .ops import prod as prod
    from .ops import ptp as ptp
    from .ops import rad2deg as rad2deg
    from .ops import ravel as ravel
    from .ops import relu as relu
    from .ops import remainder as remainder
    from .ops import repeat as repeat
    from .ops import reshape as reshape
    from .ops import rint as rint
    from .ops import roll as roll
    from .ops import rollaxis as rollaxis
    from .ops import rot90 as rot90
    from .ops import round as round
    from .ops import select as select
    from .ops import sigmoid as sigmoid
    from .ops import sign as sign
    from .ops import sin as sin
    from .ops import sinh as sinh
    from .ops import softmax as softmax
    from .ops import softplus as softplus
    from .ops import sort as sort
    from .ops import split as split
    from .ops import sqrt as sqrt
    from .ops import square as square
    from .ops import squeeze as squeeze
    from .ops import stack as stack
    from .ops import std as std
    from .ops import subtract as subtract
    from .ops import sum as sum
    from .ops import swapaxes as swapaxes
    from .ops import take as take
    from .ops import take_along_axis as take_along_axis
    from .ops import tan as tan
    from .ops import tanh as tanh
    from .ops import tensordot as tensordot
    from .ops import tile as tile
    from .ops import trace as trace
    from .ops import transpose as transpose
    from .ops import trapezoid as trapezoid
    from .ops import tril as tril
    from .ops import triu as triu
    from .ops import trunc as trunc
    from .ops import unstack as unstack
    from .ops import var as var
    from .ops import vdot as vdot
    from .ops import vecdot as vecdot
    from .ops import vecmat as vecmat
    from .ops import vsplit as vsplit
    from .ops import vstack as vstack
    from .ops import where as where
    from .nn.module import Module as Module
    from .nn.cells import GRUCell as GRUCell
    from .nn.cells import LSTMCell as LSTMCell
    from .nn.cells import RNNCell as RNNCell
    from .nn.cells import Stacked as Stacked
    from .nn.scan import scan as scan
    from .nn.ctc import ctc as ctc
    from .nn.unroll import bidirectional as bidirectional
    from .nn.unroll import unroll as unroll
    from .nn.linear_scan import linear_scan as linear_scan
    from .nn.normalization import LayerNorm as LayerNorm
    from .nn.gated import CoupledLSTMCell as CoupledLSTMCell
    from .nn.gated import LayerNormLSTMCell as LayerNormLSTMCell
    from .nn.gated import PeepholeLSTMCell as PeepholeLSTMCell
    from .nn.light import IndRNNCell as IndRNNCell
    from .nn.light import LRUCell as LRUCell
    from .nn.light import MinGRUCell as MinGRUCell
    from .nn.light import MinLSTMCell as MinLSTMCell
    from .nn.layers import Dropout as Dropout
    from .nn.layers import Embedding as Embedding
    from .nn.layers import Linear as Linear
    from .nn.standardize import Standardize as Standardize
    from .nn.models import CBOW as CBOW
    from .nn.models import RNNLM as RNNLM
    from .nn.noise import VariationalDropout as VariationalDropout
    from .nn.noise import Zoneout as Zoneout
    from .nn.recurrent import RecurrentLayers as RecurrentLayers
    from .nn.attention import AdditiveAttention as AdditiveAttention
    from .nn.attention import DotAttention as DotAttention
    from .nn.seq2seq import Seq2Seq as Seq2Seq
    from .truncation import Adaptive as Adaptive
    from .truncation import Checkpointed as Checkpointed
    from .truncation import Chunked as Chunked
    from .truncation import Decay as Decay
    from .truncation import Full as Full
    from .truncation import Policy as Policy
    from .truncation import Randomized as Randomized
    from .truncation import Recurrence as Recurrence
    from .truncation import Update as Update
    from .truncation import Windowed as Windowed
    from .truncation import bptt as bptt
    from .truncation import TruncationReport as TruncationReport
    from .truncation import credit_profile as credit_profile
    from .truncation import parse_policy as parse_policy
    from .truncation import policy_text as policy_text
    from .truncation import recurrence_report as recurrence_report
    from .truncation import stream as stream
    from .truncation import truncation_report as truncation_report
    from .compiler.api import Compiled as Compiled
    from .compiler.api import compile as compile
    from .data import Batch as Batch
    from .data import Batches as Batches
    from .data import Corpus as Corpus
    from .data import group_rows as group_rows
    from .data import OffsetBatches as OffsetBatches
    from .data import pad_sequences as pad_sequences
    from .data import Sequences as Sequences
    from .data import sliding_windows as sliding_windows
    from .data import Vocabulary as Vocabulary
    from .data import embedded_text as embedded_text
    from .data import load_corpus as load_corpus
    from .data import read_text as read_text
    from .optim import Adagrad as Adagrad
    from .optim import Adam as Adam
    from .optim import AdamW as AdamW
    from .optim import Averaged as Averaged
    from .optim import Grouped as Grouped
    from .optim import Lion as Lion
    from .optim import Momentum as Momentum
    from .optim import RMSprop as RMSprop
    from .optim import SGD as SGD
    from .optim import clip_by_norm as clip_by_norm
    from .optim import clip_by_value as clip_by_value
    from .config import TrainConfig as TrainConfig
    from .training import Callback as Callback
    from .training import Checkpoints as Checkpoints
    from .training import LanguageTrainer as LanguageTrainer
    from .training import Stepper as Stepper
    from .training import Trainer as Trainer
    from .training import TrainStep as TrainStep
    from .training.decoding import decode as decode
    from .training import evaluate as evaluate
    from .training import generate as generate
    from .training import load as load
    from .training import load_model as load_model
    from .training import run_epoch as run_epoch
    from .training import save as save
    from .training import save_model as save_model
    from .training import train_epoch as train_epoch
    from .graphs import Drawing as Drawing
    from .graphs import draw as draw
    from .graphs import plot_gradient_flow as plot_gradient_flow

_HOME = {
    "errors": (
        "ConfigError CorpusError DTypeError DivergedError DrawingError GradientError GradientWarning ModelFileError "
        "NativeError NonFiniteError ShapeError TraceError UnsupportedError"
    ),
    "engine.tape": "anomaly_mode at_step enable_grad no_grad scope",
    "engine.table": "implements supported",
    "engine.tensor": "Tensor parameter tensor",
    "engine.primitive": "Primitive primitive",
    "engine.autograd": "grad",
    "engine.transforms": "hvp jacobian jvp vjp",
    "ops": (
        "absolute add append arccos arccosh arcsin arcsinh arctan arctan2 arctanh array_split astype atleast_1d "
        "atleast_2d atleast_3d average binary_cross_entropy block broadcast_arrays broadcast_to cbrt ceil clip "
        "column_stack concatenate copy copysign cos cosh cross cross_entropy cumprod cumsum cumulative_prod "
        "cumulative_sum cut deg2rad delete diag diagflat diagonal diff divide divmod dot dsplit dstack einsum exp "
        "exp2 expand_dims expm1 fabs fix flip fliplr flipud floor floor_divide fmax fmin fmod gaussian_nll "
        "getitem heaviside hsplit hstack huber hypot inner kron log log10 log1p log2 log_sigmoid log_softmax "
        "logaddexp logaddexp2 logsumexp mae matmul matrix_transpose matvec max maximum mean median min minimum "
        "modf moveaxis mse multi_dot multiply nan_to_num nanmean nanstd nansum nanvar negative norm outer pad "
        "power prod ptp rad2deg ravel relu remainder repeat reshape rint roll rollaxis rot90 round select sigmoid "
        "sign sin sinh softmax softplus sort split sqrt square squeeze stack std subtract sum swapaxes take "
        "take_along_axis tan tanh tensordot tile trace transpose trapezoid tril triu trunc unstack var vdot "
        "vecdot vecmat vsplit vstack where"
    ),
    "nn.module": "Module",
    "nn.cells": "GRUCell LSTMCell RNNCell Stacked",
    "nn.scan": "scan",
    "nn.ctc": "ctc",
    "nn.unroll": "bidirectional unroll",
    "nn.linear_scan": "linear_scan",
    "nn.normalization": "LayerNorm",
    "nn.gated": "CoupledLSTMCell LayerNormLSTMCell PeepholeLSTMCell",
    "nn.light": "IndRNNCell LRUCell MinGRUCell MinLSTMCell",
    "nn.layers": "Dropout Embedding Linear",
    "nn.standardize": "Standardize",
    "nn.models": "CBOW RNNLM",
    "nn.noise": "VariationalDropout Zoneout",
    "nn.recurrent": "RecurrentLayers",
    "nn.attention": "AdditiveAttention DotAttention",
    "nn.seq2seq": "Seq2Seq",
    "training.decoding": "decode",
    "truncation": (
        "Adaptive Checkpointed Chunked Decay Full Policy Randomized Recurrence Update Windowed bptt "
        "TruncationReport credit_profile parse_policy policy_text recurrence_report stream truncation_report"
    ),
    "compiler.api": "Compiled compile",
    "data": (
        "Batch Batches Corpus embedded_text group_rows load_corpus OffsetBatches pad_sequences read_text "
        "Sequences sliding_windows Vocabulary"
    ),
    "optim": "Adagrad Adam AdamW Averaged Grouped Lion Momentum RMSprop SGD clip_by_norm clip_by_value",
    "config": "TrainConfig",
    "graphs": "Drawing draw plot_gradient_flow",
    "training": (
        "Callback Checkpoints LanguageTrainer Stepper Trainer TrainStep evaluate generate load load_model run_epoch "
        "save save_model train_epoch"
    ),
}
_ROOMS = frozenset(
    {
        "compiler",
        "data",
        "engine",
        "graphs",
        "handwritten",
        "metrics",
        "nn",
        "ops",
        "optim",
        "testing",
        "training",
        "truncation",
    }
)
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".ops", __name__)  # Tensors get their operators from there, whatever is asked for first
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
