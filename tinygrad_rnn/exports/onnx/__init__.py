"""ONNX: a recorded function as a file (`write`), and recurrent layers from one (`from_onnx`)."""

from .read import from_onnx as from_onnx
from .write import write as write
