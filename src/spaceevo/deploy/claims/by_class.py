"""What an accuracy consists of: each class's own, which is taken for which, and how far a model's certainty can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, from_numpy

BINS = 15  # of certainty, for the calibration error (Guo et al., 2017)
MOST = 50  # classes whose confusion a card tells: every pair of them
WORST = 24  # mistakes that a card names


def by_class(logits: np.ndarray, labels: Tensor) -> dict[str, Any]:
    """Of ``logits`` ``[N, classes]`` for images with ``labels`` ``[N]``: ``balanced``, the mean of the classes' accuracies, and
    ``calibration_error`` (expected, 15 bins), both in percent; ``images`` and ``right`` of each class; ``confusion``, a row a
    class and a column what its images were taken for; and the surest ``mistakes``, by the number of the image."""
    from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

    shares = from_numpy(logits).double().softmax(1)
    classes, said = shares.shape[1], shares.argmax(1)
    confusion = multiclass_confusion_matrix(said, labels, classes)
    images, right = confusion.sum(1), confusion.diagonal()
    there = images > 0
    sure = shares.max(1).values
    wrong = (said != labels).nonzero().flatten()
    worst = wrong[sure[wrong].argsort(descending=True, stable=True)][:WORST]
    return dict(
        balanced=100 * float((right[there] / images[there]).mean()),
        calibration_error=100 * float(multiclass_calibration_error(shares, labels, classes, n_bins=BINS)),
        images=images.tolist(),
        right=right.tolist(),
        confusion=confusion.tolist() if classes <= MOST else None,
        mistakes=[
            {"image": int(i), "label": int(labels[i]), "said": int(said[i]), "probability": round(float(sure[i]), 4)}
            for i in worst
        ],
    )


def unseen(told: dict[str, Any]) -> list[int]:
    """The classes of which no image is recognized, of those that there are images of."""
    return [i for i, (images, right) in enumerate(zip(told["images"], told["right"], strict=True)) if images and not right]
