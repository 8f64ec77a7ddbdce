"""The standalone evolution engine: Q-T score, evolution and exhaustive search over search spaces, constrained evolution
over subnets, and what a table says of subnets that it has no rows of."""

from spaceevo.evolution.additive import AdditiveCost
from spaceevo.evolution.aging import Evolution, Individual, aging_evolution, random_search
from spaceevo.evolution.between_rows import NsrTrees, fit_nsr
from spaceevo.evolution.binding import binding
from spaceevo.evolution.block_latency import BlockLatency, recover_blocks
from spaceevo.evolution.constrained import Archive, constrained_evolution
from spaceevo.evolution.edges import space_edge, subnet_edge
from spaceevo.evolution.exhaustive import exhaustive_search
from spaceevo.evolution.genes import GeneCode
from spaceevo.evolution.loading import load_table
from spaceevo.evolution.optimum import TopSubnet, top_subnet
from spaceevo.evolution.pareto import hypervolume, pareto_front
from spaceevo.evolution.qt_score import QTScore
from spaceevo.evolution.table import Ends, Rows, Table, check_limits

__all__ = [
    "AdditiveCost",
    "Archive",
    "BlockLatency",
    "Ends",
    "Evolution",
    "GeneCode",
    "Individual",
    "NsrTrees",
    "QTScore",
    "Rows",
    "Table",
    "TopSubnet",
    "aging_evolution",
    "binding",
    "check_limits",
    "constrained_evolution",
    "exhaustive_search",
    "fit_nsr",
    "hypervolume",
    "load_table",
    "pareto_front",
    "random_search",
    "recover_blocks",
    "space_edge",
    "subnet_edge",
    "top_subnet",
]
