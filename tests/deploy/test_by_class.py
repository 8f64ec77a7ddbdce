"""Class by class: the figures beside a top-1, by hand and for whoever answers one class for every image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spaceevo.deploy.claims.by_class import MOST, WORST, by_class, unseen


def test_figures_of_a_few_images_are_those_counted_by_hand() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.9, 0.05, 0.05]])
    told = by_class(np.log(shares).astype(np.float32), torch.tensor([0, 1, 1, 2, 1]))
    assert told["images"] == [1, 3, 1] and told["right"] == [1, 1, 1]
    assert told["confusion"] == [[1, 0, 0], [2, 1, 0], [0, 0, 1]]
    assert told["balanced"] == pytest.approx(100 * (1 + 1 / 3 + 1) / 3)
    assert [one["image"] for one in told["mistakes"]] == [4, 1]  # the surest first
    assert told["mistakes"][0] == {"image": 4, "label": 1, "said": 0, "probability": 0.9}
    # five bins, an image each: |0.7 - 1|, |0.6 - 0|, |0.8 - 1|, |0.4 - 1|, |0.9 - 0|, but 0.6 and 0.7 may share none
    assert told["calibration_error"] == pytest.approx(100 * (0.3 + 0.6 + 0.2 + 0.6 + 0.9) / 5, abs=1e-3)
    assert unseen(told) == []


def test_one_answer_for_every_image_is_high_in_top1_and_half_in_the_mean_of_the_classes() -> None:
    labels = torch.tensor([0] * 126 + [1] * 3)
    told = by_class(np.tile(np.float32([2.0, -1.0]), (129, 1)), labels)
    assert sum(told["right"]) / 129 > 0.97 and told["balanced"] == 50.0
    assert unseen(told) == [1]


def test_many_classes_and_many_mistakes_stay_short() -> None:
    rng = np.random.default_rng(0)
    told = by_class(rng.normal(size=(500, MOST + 1)).astype(np.float32), torch.from_numpy(rng.integers(0, MOST, 500)))
    assert told["confusion"] is None and len(told["mistakes"]) == WORST
    assert MOST not in unseen(told)  # there are no images of the last class
