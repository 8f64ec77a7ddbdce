"""The names that exported models carry."""

from __future__ import annotations

import pytest

from spaceevo.app.config import compose
from spaceevo.data.labels import CLASS_NAMES, class_names


@pytest.mark.parametrize("name", [*CLASS_NAMES, "imagenet"])
def test_every_class_has_a_name_of_its_own(name: str) -> None:
    data = compose("train", ["stage=teacher", f"data={name}", "data.image_size=28"]).data
    assert len(set(class_names(data))) == data.classes


def test_classes_without_names_are_numbered() -> None:
    data = compose("train", ["stage=teacher", "data=digits", "data.image_size=28"]).data
    data.name, data.classes = "another", 3
    assert class_names(data) == ["0", "1", "2"]


def test_imagenets_names_are_in_the_order_of_its_folders() -> None:
    data = compose("train", ["stage=teacher", "data=imagenet"]).data
    names = class_names(data)
    assert (names[0], names[134], names[517], names[999]) == ("tench", "crane bird", "crane", "toilet tissue")
    data.classes = 3  # of a part of its folders
    assert class_names(data) == ["0", "1", "2"]
