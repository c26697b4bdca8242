"""ONNX: a recorded function as a file (`write`), and recurrent layers from one."""

from .write import write as write
