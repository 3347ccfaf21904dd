"""Figures: tables and circuits in, ``matplotlib`` Figures out. Nothing here reads a file or imports torch."""

from acdc.figures.circuit import draw
from acdc.figures.faithfulness import curves
from acdc.figures.pareto import pareto
from acdc.figures.roc import roc
from acdc.figures.style import save

__all__ = ["curves", "draw", "pareto", "roc", "save"]
