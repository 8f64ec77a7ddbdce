"""Images: the same split and the same batches for the same seed, epoch and step."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spaceevo.app.config import Config, compose
from spaceevo.data import ImagesModule, Normalized, images, input_range, load_data, normalize
from spaceevo.data.module import Shuffle, flip_and_crop
from spaceevo.errors import UserError


@pytest.fixture(scope="module")
def digits() -> Config:
    return compose("train", ["experiment=tiny"])


def test_split_is_disjoint_and_the_same_every_time(digits: Config) -> None:
    a, b = load_data(digits.data), load_data(digits.data)
    assert torch.equal(a.val, b.val) and torch.equal(a.train_labels, b.train_labels)
    assert len(a.val) == digits.data.validation and len(a.train) + len(a.val) == 1797 - 360
    assert a.test is None
    other = load_data(compose("train", ["experiment=tiny", "data.split_seed=1"]).data, test=True)
    assert not torch.equal(other.val, a.val)
    assert other.test is not None and len(other.test) == 360
    assert a.split == b.split != other.split


def test_the_split_of_seed_0_is_what_it_always_was(digits: Config) -> None:
    """Figures of earlier versions hold for it: the last of NumPy's permutation of the seed and 0x5EED."""
    order = np.random.default_rng([0, 0x5EED]).permutation(1797 - 360)
    every = load_data(compose("train", ["experiment=tiny", "data.validation=1"]).data)  # all but one, in that order
    whole = torch.cat([every.train, every.val])
    data = load_data(digits.data)
    assert torch.equal(torch.cat([data.train, data.val]), whole)
    back = torch.empty_like(whole)
    back[torch.from_numpy(order)] = whole
    assert torch.equal(back, images._digits(digits.data, True)[0])


@pytest.mark.parametrize("change", ["validation=201", "train_limit=1000", "split_seed=1"])
def test_whatever_splits_otherwise_has_another_hash(digits: Config, change: str) -> None:
    other = load_data(compose("train", ["experiment=tiny", f"data.{change}"]).data)
    assert len(other.split) == 64 and other.split != load_data(digits.data).split
    assert load_data(compose("train", ["experiment=tiny", "seed=7"]).data).split == load_data(digits.data).split


def test_normalized_images_have_the_stated_range_mean_and_spread(digits: Config) -> None:
    x = normalize(load_data(digits.data).train, digits.data)
    low, high = input_range(digits.data)
    assert float(x.min()) == pytest.approx(low) and float(x.max()) == pytest.approx(high, abs=1e-5)
    assert abs(float(x.mean())) < 0.05 and abs(float(x.std()) - 1) < 0.05
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_batches_are_a_function_of_seed_epoch_and_step(digits: Config) -> None:
    data = load_data(digits.data)

    def epoch(number: int, seed: int = 0) -> list[torch.Tensor]:
        module = ImagesModule(data, digits.data, 64, seed)
        module.sampler.set_epoch(number)
        return [x for x, _ in module.train_dataloader()]

    first, again, second, other = epoch(0), epoch(0), epoch(1), epoch(0, seed=1)
    assert len(first) == len(data.train) // 64
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], second[0]) and not torch.equal(first[0], other[0])


def test_an_epoch_sees_every_image_once(digits: Config) -> None:
    data = load_data(digits.data)
    module = ImagesModule(data, digits.data, len(data.train), 0)
    seen = torch.cat([batch[2] for batch in module.sampler])
    assert sorted(seen.tolist()) == list(range(len(data.train))) and module.steps_per_epoch == 1


def test_a_limited_epoch_draws_anew_from_all_images(digits: Config) -> None:
    data = load_data(digits.data)

    def drawn(epoch: int, seed: int = 0) -> list[int]:
        module = ImagesModule(data, digits.data, 64, seed, limit=640)
        module.sampler.set_epoch(epoch)
        assert module.steps_per_epoch == len(module.sampler) == 10
        return torch.cat([batch[2] for batch in module.sampler]).tolist()

    epochs = [drawn(epoch) for epoch in range(12)]
    assert all(len(set(epoch)) == 640 for epoch in epochs)
    assert drawn(3) == epochs[3] != drawn(3, seed=1)  # a function of seed and epoch alone
    assert len(set().union(*epochs)) > 0.99 * len(data.train)  # of 1,237 one is left out twelve times with 1e-4


def test_lightning_moves_to_the_next_epoch(digits: Config) -> None:
    import lightning as L

    class Note(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.sums: list[list[float]] = [[], []]

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
            self.sums[self.current_epoch].append(float(batch[0].sum()))
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    note, module = Note(), ImagesModule(load_data(digits.data), digits.data, 256, 0)
    L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(note, datamodule=module)
    assert len(note.sums[0]) == len(note.sums[1]) == module.steps_per_epoch
    assert note.sums[0] != note.sums[1]


def test_flip_and_crop_only_moves_pixels() -> None:
    x = torch.zeros(64, 1, 9, 9, dtype=torch.uint8)
    x[:, :, 3, 4] = 200
    y, _ = flip_and_crop(x, np.random.default_rng(0), True, 2)
    assert y.shape == x.shape and bool((y.sum((1, 2, 3)) == 200).all())
    rows, columns = torch.nonzero(y[:, 0], as_tuple=True)[1:]
    assert set(rows.tolist()) == {1, 2, 3, 4, 5} and set(columns.tolist()) == {2, 3, 4, 5, 6}


def test_missing_fashion_mnist_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "DEBIAN_FASHION_MNIST", tmp_path / "none")
    cfg = compose("train", [f"data.root={tmp_path}"]).data
    with pytest.raises(UserError, match=r"apt-get install dataset-fashion-mnist. or data.download=true"):
        load_data(cfg)


def test_damaged_fashion_mnist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "DEBIAN_FASHION_MNIST", tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    for content in (b"not gzip", gzip.compress(b"\0\0\x08\x03\0\0\0\x02"), gzip.compress(b"x" * 100)[:-9]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is damaged"):
            load_data(compose("train").data)


def test_missing_cifar10_says_how_to_get_it(tmp_path: Path) -> None:
    cfg = compose("train", ["data=cifar10", f"data.root={tmp_path}"]).data
    with pytest.raises(UserError, match=r"data=cifar10: not in data\.root=.*data\.download=true"):
        load_data(cfg)


def test_config_that_does_not_describe_the_images_is_refused(digits: Config) -> None:
    wrong = compose("train", ["experiment=tiny", "data.channels=3"]).data
    with pytest.raises(UserError, match=r"data\.channels=3: must be 1 for digits"):
        load_data(wrong)
    greedy = compose("train", ["experiment=tiny", "data.validation=5000"]).data
    with pytest.raises(UserError, match=r"data\.validation=5000: must be from 1 to 1436"):
        load_data(greedy)


@pytest.mark.skipif(not images.DEBIAN_FASHION_MNIST.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist_is_whole() -> None:
    data = load_data(compose("train").data, test=True)
    assert data.train.shape == (55000, 1, 28, 28) and data.val.shape == (5000, 1, 28, 28)
    assert data.test is not None and data.test.shape == (10000, 1, 28, 28)
    assert data.test_labels is not None and torch.bincount(data.test_labels).tolist() == [1000] * 10


def write_images(root: Path, names: tuple[str, ...] = ("a", "b"), count: int = 4) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for label, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                shade = 60 + 100 * label + rng.integers(0, 9, (30 + i, 40, 3))
                Image.fromarray(shade.astype(np.uint8)).save(root / part / name / f"{i}.jpg")


def folder(root: Path, *more: str) -> Config:
    return compose("train", ["experiment=paper_vnni", f"data.root={root}", "data.classes=2", "data.validation=2", *more])


def test_a_folder_of_class_folders_is_split_and_decoded_when_asked(tmp_path: Path) -> None:
    write_images(tmp_path)
    cfg = folder(tmp_path, "data.test_limit=6").data
    data = load_data(cfg, test=True)
    assert (len(data.train), len(data.val), len(data.test or ())) == (6, 2, 6)
    x = data.train[:]
    assert x.shape == (6, 3, 224, 224) and x.dtype == torch.uint8
    assert torch.equal((x.float().mean((1, 2, 3)) > 110).long(), data.train_labels)  # class b is the brighter
    assert torch.equal(load_data(cfg).train[:], x) and len(x) == 6
    low, high = input_range(cfg)
    assert low <= float(normalize(data.train, cfg).min()) and float(normalize(data.train, cfg).max()) <= high
    lazy = Normalized(data.train, cfg)
    assert len(Normalized(data.train, cfg, 4)) == len(Normalized(data.train, cfg, 4)[2:9]) + 2 == 4
    assert len(lazy) == 6 and torch.equal(torch.cat([lazy[:4], lazy[4:]]), normalize(data.train, cfg))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_folder_are_a_function_of_seed_epoch_and_step(tmp_path: Path, workers: int) -> None:
    write_images(tmp_path)
    cfg = folder(tmp_path, f"data.workers={workers}").data
    data = load_data(cfg)

    def epoch(number: int, seed: int = 0) -> list[torch.Tensor]:
        module = ImagesModule(data, cfg, 3, seed)
        module.sampler.set_epoch(number)
        return [x for x, _ in module.train_dataloader()]

    first, again, second, other = epoch(0), epoch(0), epoch(1), epoch(0, seed=1)
    assert [x.shape for x in first] == [(3, 3, 224, 224)] * 2 and first[0].dtype == torch.uint8
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], second[0]) and not torch.equal(first[0], other[0])
    inline = ImagesModule(data, folder(tmp_path, "data.workers=0").data, 3, 0)
    inline.sampler.set_epoch(0)
    assert all(torch.equal(a, b) for a, (b, _) in zip(first, inline.train_dataloader(), strict=True))


def test_a_folder_that_is_not_as_described_is_one_line(tmp_path: Path) -> None:
    write_images(tmp_path)
    with pytest.raises(UserError, match=r"data\.classes=1000: must be 2, the number of class folders in .*train"):
        load_data(compose("train", ["experiment=paper_vnni", f"data.root={tmp_path}"]).data)
    with pytest.raises(UserError, match=r"data\.mean=\[0\.5\]: must be 3 numbers, one a channel"):
        load_data(folder(tmp_path, "data.mean=[0.5]").data)
    (tmp_path / "val" / "b").rename(tmp_path / "val" / "c")
    with pytest.raises(UserError, match=r"train and val must have the same class folders; b is in one only"):
        load_data(folder(tmp_path).data, test=True)
    broken = tmp_path / "train" / "a" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    data = load_data(folder(tmp_path).data)
    with pytest.raises(UserError, match=r"0\.jpg: not an image that can be read"):
        [images[:] for images in (data.train, data.val)]


def test_an_epoch_has_all_hard_images_and_a_share_of_the_easy_ones_drawn_anew() -> None:
    easy = np.arange(100) % 4 != 0
    sampler = Shuffle(100, 5, 3, easy=(easy, 0.2))
    seen = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        order = torch.cat([batch[2] for batch in sampler]).numpy()
        assert len(order) == len(set(order)) == 25 + 15 and set(np.flatnonzero(~easy)) <= set(order)
        seen.append(set(order[easy[order]]))
    assert len(set.union(*seen)) > 65 and seen[0] != seen[1]


def test_without_easy_images_an_epoch_is_a_permutation() -> None:
    sampler = Shuffle(100, 10, 3)
    sampler.set_epoch(7)
    order = torch.cat([batch[2] for batch in sampler]).numpy()
    np.testing.assert_array_equal(order, np.random.default_rng([3, 7]).permutation(100))
    none = Shuffle(100, 10, 3, easy=(np.zeros(100, bool), 0.5))
    none.set_epoch(7)
    np.testing.assert_array_equal(order, torch.cat([batch[2] for batch in none]).numpy())


def test_an_epoch_of_more_images_than_there_are_has_each_as_often_as_it_takes() -> None:
    sampler = Shuffle(100, 25, 3, limit=250)
    order = torch.cat([batch[2] for batch in sampler]).numpy()
    assert len(sampler) == 10
    assert sorted(np.bincount(order, minlength=100)) == [2] * 50 + [3] * 50
    np.testing.assert_array_equal(order[:100], np.random.default_rng([3, 0]).permutation(100))


def test_a_balanced_epoch_has_as_many_of_every_class() -> None:
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2)
    sampler = Shuffle(100, 10, 3, classes=labels)
    sampler.set_epoch(2)
    order = torch.cat([batch[2] for batch in sampler]).numpy()
    assert len(order) == 100 and set(np.bincount(labels[order])) <= {32, 33, 34}
    assert np.bincount(order, minlength=100)[98:].min() >= 16  # the two of the smallest class
    assert np.bincount(order, minlength=100)[:90].max() == 1
    again = Shuffle(100, 10, 3, classes=labels)
    again.set_epoch(2)
    np.testing.assert_array_equal(order, torch.cat([batch[2] for batch in again]).numpy())


@pytest.mark.parametrize("given", [("augment=trivial", "erase=0"), ("augment=rand", "erase=0"), ("augment=null", "erase=1")])
def test_changed_images_are_a_function_of_seed_epoch_and_step_and_all_differ(given: tuple[str, str], digits: Config) -> None:
    cfg = compose("train", ["experiment=tiny", *(f"data.{key}" for key in given)]).data
    data = load_data(cfg)
    batches = [next(iter(ImagesModule(data, cfg, 64, seed).train_dataloader()))[0] for seed in (0, 0, 1)]
    assert batches[0].dtype == torch.uint8 and torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])
    plain = next(iter(ImagesModule(data, digits.data, 64, 0).train_dataloader()))[0]
    other = (batches[0] != plain).flatten(1).any(1)
    assert other.float().mean() > 0.5
    if given[1] == "erase=1":
        assert (batches[0][batches[0] != plain] == 0).all()


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_images_and_their_labels_are_of_the_same_two_in_the_same_shares(mix: str) -> None:
    cfg = compose("train", ["experiment=tiny", f"data.mix={mix}", "data.flip=false", "data.shift=0"]).data
    data = load_data(cfg)
    flat = replace(data, train=data.train_labels[:, None, None, None].expand_as(data.train).to(torch.uint8) * 20)
    first, again, other = (next(iter(ImagesModule(flat, cfg, 64, seed).train_dataloader())) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)) and not torch.equal(first[1], other[1])
    for pixels, shares in (first, other):
        assert pixels.dtype == torch.uint8 and shares.shape == (64, cfg.classes) and (shares > 0).sum(1).max() == 2
        torch.testing.assert_close(shares.sum(1), torch.ones(64))
        levels = shares @ (torch.arange(cfg.classes) * 20.0)  # every pixel of an image is its label's
        assert (pixels.float().mean((1, 2, 3)) - levels).abs().max() <= (0.5 if mix == "mixup" else 1e-3)
    own = next(iter(ImagesModule(flat, cfg, 64, 0, augment=False).train_dataloader()))
    assert own[1].dim() == 1
