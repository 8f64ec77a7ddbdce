"""The standalone evolution engine: Q-T score, aging evolution over search spaces, constrained evolution over subnets."""

from spaceevo.evolution.additive import AdditiveCost
from spaceevo.evolution.aging import Evolution, Individual, aging_evolution, random_search
from spaceevo.evolution.constrained import Archive, constrained_evolution
from spaceevo.evolution.genes import GeneCode
from spaceevo.evolution.pareto import hypervolume, pareto_front
from spaceevo.evolution.qt_score import QTScore
from spaceevo.evolution.table import Table, check_limits, load_table

__all__ = [
    "AdditiveCost",
    "Archive",
    "Evolution",
    "GeneCode",
    "Individual",
    "QTScore",
    "Table",
    "aging_evolution",
    "check_limits",
    "constrained_evolution",
    "hypervolume",
    "load_table",
    "pareto_front",
    "random_search",
]
