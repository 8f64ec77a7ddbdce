"""The standalone evolution engine: Q-T score, aging evolution over search spaces, constrained evolution over subnets."""

from spaceevo.evolution.aging import Evolution, Individual, aging_evolution, random_search
from spaceevo.evolution.constrained import Evaluated, constrained_evolution, pareto_front
from spaceevo.evolution.exhaustive import exhaustive_search
from spaceevo.evolution.qt_score import QTScore
from spaceevo.evolution.table import Rows, Table, check_limits, load_table

__all__ = [
    "Evaluated",
    "Evolution",
    "Individual",
    "QTScore",
    "Rows",
    "Table",
    "aging_evolution",
    "check_limits",
    "constrained_evolution",
    "exhaustive_search",
    "load_table",
    "pareto_front",
    "random_search",
]
