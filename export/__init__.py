"""Backbone export: the only part of spadeline that needs torch, and only while it exports."""

from .choices import BACKBONES, LEVELS, PRECISIONS, Precision
from .extractor import ExportReport, export_extractor
from .verify import OutputCheck

__all__ = [
    "BACKBONES",
    "LEVELS",
    "PRECISIONS",
    "ExportReport",
    "OutputCheck",
    "Precision",
    "export_extractor",
]
