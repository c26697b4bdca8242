"""An autograd micro-framework for recurrent networks on NumPy.

The public interface in one page. Names are imported on first use, so that `import tinygrad_rnn` and
`tinygrad-rnn --help` do not wait for NumPy. Type checkers read `__init__.pyi`, which `make stub` writes from this
table. (Not related to the project called tinygrad.)

    import tinygrad_rnn as tr
"""

from importlib import import_module

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
        "getitem heaviside hsplit hstack huber hypot inner inv kron log log10 log1p log2 log_sigmoid log_softmax "
        "logaddexp logaddexp2 logsumexp mae matmul matrix_transpose matvec max maximum mean median min minimum "
        "modf moveaxis mse multi_dot multiply nan_to_num nanmean nanstd nansum nanvar negative norm outer pad "
        "power prod ptp rad2deg ravel relu remainder repeat reshape rint roll rollaxis rot90 round select sigmoid "
        "sign sin sinh softmax softplus solve sort split sqrt square squeeze stack std subtract sum swapaxes take "
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
    "nn.awd": "AWDLM",
    "nn.noise": "VariationalDropout WeightDrop Zoneout",
    "nn.recurrent": "RecurrentLayers SequenceModel",
    "nn.attention": "AdditiveAttention DotAttention",
    "nn.seq2seq": "Seq2Seq",
    "training.inference.decoding": "decode",
    "truncation": (
        "Adaptive Checkpointed Chunked Decay Full Policy Randomized Recurrence Update Windowed bptt "
        "TruncationReport credit_profile parse_policy policy_text recurrence_report stream truncation_report"
    ),
    "credit.forward": "ForwardPolicy",
    "credit.report": "InfluencePattern influence_pattern",
    "credit.patterned": "EProp RFLO RTRL SnAp",
    "credit.sampled": "ForwardGradient KroneckerFactored UORO",
    "compiler.api": "Compiled compile",
    "data": (
        "Batch Batches Corpus embedded_text group_rows load_corpus OffsetBatches pad_sequences prepare_corpus "
        "read_text Sequences sliding_windows Vocabulary"
    ),
    "optim": "Adagrad Adam AdamW Averaged Grouped Lion Momentum RMSprop SGD clip_by_norm clip_by_value",
    "config": "TrainConfig",
    "graphs": "Drawing draw plot_gradient_flow",
    "exports": "export",
    "exports.jax": "to_jax",
    "course": "grade",
    "exports.onnx.read": "from_onnx",
    "exports.torch": "from_torch to_torch",
    "training": (
        "CSVMetrics Callback Checkpoints Everywhere LanguageTrainer Stepper TensorBoard TrainStep Trainer evaluate "
        "generate load load_model run_epoch save save_model train_epoch"
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
        "parallel",
        "testing",
        "training",
        "truncation",
    }
)
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)
__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".ops", __name__)  # Tensors get their operators from there, whatever is asked for first
    value: object = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
