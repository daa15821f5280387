"""Many images with one recipe or several, on one machine or a cluster: an adapter to Ray Data, not an engine."""

from .compare_page import write_comparison
from .comparing import Comparison, compare
from .description import Counts
from .rows import COLUMNS
from .run import score
from .scorer import RecipeScorer

__all__ = ["COLUMNS", "Comparison", "Counts", "RecipeScorer", "compare", "score", "write_comparison"]
