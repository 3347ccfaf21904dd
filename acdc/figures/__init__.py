"""Draw figures: tables and circuits in, ``matplotlib`` Figures out. Nothing here reads a table or imports torch."""

from acdc.figures.circuit import draw
from acdc.figures.cost import cost
from acdc.figures.faithfulness import curves
from acdc.figures.pareto import pareto
from acdc.figures.reset import trained_and_reset
from acdc.figures.roc import roc
from acdc.figures.style import save

__all__ = ["cost", "curves", "draw", "pareto", "roc", "save", "trained_and_reset"]
