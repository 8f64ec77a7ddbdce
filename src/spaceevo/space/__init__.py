"""Search spaces as data: block types, elastic stages, hyperspaces, subnets, op graphs and costs. No torch."""

from spaceevo.space.build import stage_graph, stage_input_hw
from spaceevo.space.cost import Cost, graph_cost, row_cost, stage_cost
from spaceevo.space.graph import Graph, Op, Tensor, round8
from spaceevo.space.hyperspace import Hyperspace, load_hyperspace
from spaceevo.space.published import PublishedModel, published_model, published_models, published_space, published_spaces
from spaceevo.space.searchspace import SearchSpace, any_space, one_of_each
from spaceevo.space.spec import BlockChoice, ElasticStage, StageSpec
from spaceevo.space.stage import BlockConfig, Stage, extreme_stage, format_stage, parse_stage, random_stage
from spaceevo.space.subnet import Subnet, published_subnet, subnet_cost, subnet_graph, superset_graph

__all__ = [
    "BlockChoice",
    "BlockConfig",
    "Cost",
    "ElasticStage",
    "Graph",
    "Hyperspace",
    "Op",
    "PublishedModel",
    "SearchSpace",
    "Stage",
    "StageSpec",
    "Subnet",
    "Tensor",
    "any_space",
    "extreme_stage",
    "format_stage",
    "graph_cost",
    "load_hyperspace",
    "one_of_each",
    "parse_stage",
    "published_model",
    "published_models",
    "published_space",
    "published_spaces",
    "published_subnet",
    "random_stage",
    "round8",
    "row_cost",
    "stage_cost",
    "stage_graph",
    "stage_input_hw",
    "subnet_cost",
    "subnet_graph",
    "superset_graph",
]
