"""What weights of the stages would make of the table: a ridge regression of accuracy on the stages' log NSR (DONNA's fit)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spaceevo.evolution.smooth import FLOOR

FOLDS = 10
PENALTIES = np.logspace(-2, 3, 11)  # of standardized features


@dataclass(frozen=True)
class StageWeights:
    """``predicted``: every subnet's accuracy by a fit to the others ``[N]``; ``points``: percentage points that a fit to all
    gives for one standard deviation of each stage's log NSR ``[stages]``."""

    predicted: np.ndarray
    points: np.ndarray


def weigh_stages(nsr: np.ndarray, accuracy: np.ndarray, seed: int) -> StageWeights:
    """``nsr``: of the stages of evaluated subnets ``[N, stages]``; ``accuracy``: theirs in percent ``[N]``."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logs = np.log(np.maximum(nsr, FLOOR))
    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    folds = KFold(min(FOLDS, len(logs)), shuffle=True, random_state=seed)
    predicted = cross_val_predict(model, logs, accuracy, cv=folds)
    return StageWeights(predicted, model.fit(logs, accuracy)[-1].coef_)
