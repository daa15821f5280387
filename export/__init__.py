"""Backbone export: the only part of spadeline that needs torch, and only while it exports."""

from ..engine import privacy  # noqa: F401 - first: whatever comes next imports ONNX Runtime
from .choices import BACKBONES, LEVELS, PRECISIONS, Precision
from .cost import Cost
from .extractor import ExportReport, export_extractor
from .neighbourhood import Averaging, average_extractor
from .quantized import Quantization, quantize_extractor
from .verify import OutputCheck

__all__ = [
    "BACKBONES",
    "LEVELS",
    "PRECISIONS",
    "Averaging",
    "Cost",
    "ExportReport",
    "OutputCheck",
    "Precision",
    "Quantization",
    "average_extractor",
    "export_extractor",
    "quantize_extractor",
]
