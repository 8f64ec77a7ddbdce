"""A guess at the quality of subnets that nobody evaluated: a ridge regression of that of a few dozen on what their stages are,
as DONNA fits one (Moons et al., ICCV 2021, section 3.3), with the features by which the table's NSR is predicted too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spaceevo.evolution.genes import HEAD_WIDTH, STEM_DEPTH, GeneCode, Genes
from spaceevo.evolution.nsr_sums import sub_stage_features

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FOLDS = 10
PENALTIES = np.logspace(-2, 3, 11)  # of standardized features


class QualityFit:
    """``fit(genes) -> [N]``: the guessed quality of any subnets of a space."""

    def __init__(self, code: GeneCode, genes: Genes, quality: np.ndarray) -> None:
        """Fits to evaluated subnets: their ``genes`` ``[N, code.length]`` and ``quality`` ``[N]``."""
        self.code = code
        self._model = _model().fit(_features(code, genes), quality)

    def __call__(self, genes: Genes) -> np.ndarray:
        return self._model.predict(_features(self.code, genes))


def guessed_by_the_others(code: GeneCode, genes: Genes, quality: np.ndarray, seed: int) -> np.ndarray:
    """What a fit to other subnets guesses of each of the evaluated ones, in ``FOLDS`` parts drawn by ``seed``: ``[N]``."""
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(min(FOLDS, len(genes)), shuffle=True, random_state=seed)
    return cross_val_predict(_model(), _features(code, genes), quality, cv=folds)


def _model() -> Pipeline:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


def _features(code: GeneCode, genes: Genes) -> np.ndarray:
    """Of all stages, and the stem's depth and the head's width: ``[N, F]``."""
    stages = [features for _, features in sub_stage_features(code, genes)]
    return np.column_stack([genes[:, [STEM_DEPTH, HEAD_WIDTH]], *stages])
