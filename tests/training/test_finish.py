"""One network trained alone: it learns, a time budget becomes a number of steps once, and a finished subnet reads back."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY

from spaceevo.app.config import Config, compose
from spaceevo.app.run import folder_of
from spaceevo.data import Images, ImagesModule, input_range, load_data, normalize
from spaceevo.errors import UserError
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import calibrate, logits, resized, top1
from spaceevo.space import Graph, SearchSpace, Subnet, subnet_graph
from spaceevo.space.standard import standard_graph
from spaceevo.steps import STEPS
from spaceevo.steps import alone as finishing
from spaceevo.steps.finish import LEAST_S, FinishConfig, paced
from spaceevo.steps.folder import Folder
from spaceevo.steps.needs import hyperspace
from spaceevo.training.alone import AloneModule, set_pace
from spaceevo.training.answers import answers, easy_images, targets
from spaceevo.training.checkpoint import load_checkpoint, load_finished, load_supernet, save_checkpoint
from spaceevo.training.fit import falling, fit

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
QUANT = Quantizer(8)


def module(quantized_from: float, steps: int) -> AloneModule:
    cfg = compose("train", ["experiment=tiny"])
    torch.manual_seed(0)
    graph = standard_graph("plain4", 0.5, 1, 10, 16)
    images = normalize(load_data(cfg.data).train[:256], cfg.data)
    recipe = replace(cfg.finish, lr=0.1, batch=64, quantized_from=quantized_from)
    return AloneModule(Elastic(graph, input_range(cfg.data)), graph, recipe, steps, 0, QUANT, images)


def test_a_network_alone_learns_and_is_quantized_for_the_last_part(tmp_path: Path) -> None:
    cfg = compose("train", ["experiment=tiny"])
    images = load_data(cfg.data)
    data = ImagesModule(images, cfg.data, 64, 0)
    alone = module(0.7, 4 * data.steps_per_epoch)
    fit(alone, data, CPU, False, tmp_path, 4, alone.steps)
    assert alone.global_step == alone.steps
    net, graph = alone.net.eval(), alone.graph
    x = normalize(images.val, cfg.data)
    stats = calibrate(net, graph, resized(normalize(images.train[:256], cfg.data), 16), QUANT)
    assert top1(logits(net, graph, stats, x, QUANT), images.val_labels) > 85
    units = [float(p.output.scale.unit) for p in net.ops_by_name.values()]
    assert 1.0 not in units  # fitted when quantization began


def test_steps_of_a_fit_end_it_within_an_epoch(tmp_path: Path) -> None:
    cfg = compose("train", ["experiment=tiny"])
    data = ImagesModule(load_data(cfg.data), cfg.data, 64, 0)
    alone = module(0.0, 3)
    fit(alone, data, CPU, False, tmp_path, 1, 3)
    assert alone.global_step == 3 < data.steps_per_epoch


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [falling(step, 100, 0.1) for step in range(101)]
    assert rates[0] < 0.2 and max(rates) == rates[9] == pytest.approx(0.91) and rates[-1] == 0
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_seconds_become_steps_once(tmp_path: Path) -> None:
    alone, record = module(0.5, 0), tmp_path / "pace.json"
    before = {name: value.clone() for name, value in alone.net.state_dict().items()}
    cfg = compose("train", ["experiment=tiny"])
    data = ImagesModule(load_data(cfg.data), cfg.data, 64, 0)
    set_pace(alone, 2.0, data, CPU, True, tmp_path)
    told, steps, bf16 = json.loads(record.read_text()), alone.steps, alone.bf16
    taken = told["step_s"]
    assert bf16 is told["bf16"] is (taken["bf16"] < taken["fp32"])
    step = (taken["quantizing"] + min(taken["bf16"], taken["fp32"])) / 2 + told["loop_s"]
    assert steps == told["steps"] == max(1, round(2.0 / step)) and told["seconds"] == 2.0
    record.write_text(json.dumps(told | {"bf16": not bf16}))
    set_pace(alone, 1e6, data, CPU, True, tmp_path)  # a resumed run does what it began
    assert alone.steps == steps and alone.bf16 is not bf16
    for name, value in alone.net.state_dict().items():
        assert torch.equal(value, before[name]), name  # measured on a copy


@pytest.mark.slow
def test_a_trial_of_the_loop_counts_what_a_step_costs_beside_its_arithmetic(tmp_path: Path) -> None:
    cfg = compose("train", ["experiment=tiny"])

    class Slow(ImagesModule):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            time.sleep(0.2)
            return super().on_after_batch_transfer(batch, dataloader_idx)

    set_pace(module(0.5, 0), 60.0, Slow(load_data(cfg.data), cfg.data, 64, 0), CPU, False, tmp_path)
    told = json.loads((tmp_path / "pace.json").read_text())
    assert told["loop_s"] > 0.19 and told["steps"] < 60 / 0.2


@pytest.mark.parametrize("quantized_from", [0.0, 1.0])
def test_steps_that_do_not_quantize_alone_run_in_bf16(quantized_from: float, tmp_path: Path) -> None:
    cfg = compose("train", ["experiment=tiny"])
    weights = []
    for bf16 in (False, True):
        alone = module(quantized_from, 2)
        alone.bf16 = bf16
        fit(alone, ImagesModule(load_data(cfg.data), cfg.data, 64, 0), CPU, False, tmp_path / str(bf16), 1, 2)
        weights.append(torch.cat([p.weight.detach().flatten() for p in alone.net.ops_by_name.values() if hasattr(p, "weight")]))
    assert torch.equal(*weights) is (quantized_from == 0.0)
    assert torch.allclose(*weights, atol=0.05)


def finish(cfg: Config) -> None:
    """The step alone, whatever the folder's records say."""
    STEPS["finish"].run(folder_of(STEPS["finish"], cfg), cfg)


def test_no_seconds_leave_the_inherited_weights_as_the_paper_has_it(tiny_run: Path) -> None:
    cfg = compose("train", [*TINY, f"run_dir={tiny_run}"])
    assert compose("train", [*TINY, "finish.epochs=0"]).finish.epochs == 0
    net, space = load_supernet(tiny_run / "qat.ckpt", hyperspace(cfg))
    for path in tiny_run.glob("finished/*.ckpt"):
        own, told = load_finished(path, space, Quantizer(told_bits(path)))
        graph = subnet_graph(Subnet.parse(space, told["subnet"]))
        moved = [not torch.equal(own.weight(op), net.weight(op)) for op in graph.ops if op.has_weight]
        assert told["steps"] > 0 and all(moved)
        assert 0 <= told["top1_inherited"] <= 100 and 0 <= told["top1_val"] <= 100


def test_subnets_share_what_the_steps_before_left_of_the_time(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = compose("train", [*TINY, f"run_dir={tiny_run}", "finish.epochs=null", "finish.until=100"])
    folder, images = folder_of(STEPS["finish"], cfg), load_data(cfg.data)
    records = [json.loads(path.read_text()) for path in tiny_run.glob("provenance/*.json")]
    later = {"finish", "export", "benchmark", "report"}
    left = 6000 - sum(record["wall_s"] for record in records if record["step"] not in later)
    assert cfg.finish.at_all and cfg.finish.first == 2  # the teacher counts as two
    assert paced(folder, cfg.finish, 3, images).seconds == pytest.approx(left / 4)
    assert paced(folder, cfg.finish, 1, images).seconds == pytest.approx(left)
    assert paced(folder, replace(cfg.finish, distill=0.0), 3, images).seconds == pytest.approx(left / 3)
    for given in (replace(cfg.finish, seconds=0.0), replace(cfg.finish, epochs=3.0)):
        assert paced(folder, given, 3, images) == given
    assert capsys.readouterr().out == ""
    assert paced(folder, replace(cfg.finish, until=1e-3), 3, images).seconds == LEAST_S
    assert "minutes of finish.until=0.001: 30 s a subnet" in capsys.readouterr().out


def test_a_subnet_of_two_limits_is_trained_once(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("finished", "partial", "models"))
    found = yaml.safe_load((folder / "pareto.yaml").read_text())
    one, *_ = found["chosen"]
    found["chosen"] = [one, one | {"name": "another"}]
    (folder / "pareto.yaml").write_text(yaml.safe_dump(found))
    finish(compose("train", [*TINY, f"run_dir={folder}"]))
    paths = [folder / f"finished/{name}.ckpt" for name in (one["name"], "another")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    said = capsys.readouterr().out
    assert f"{one['name']}: the same subnet as another" in said and said.count("inherited") == 1


def test_targets_are_labels_and_what_another_answers_in_the_share_asked_for() -> None:
    cfg = compose("train", ["experiment=tiny", "finish.distill=0.75", "data.flip=true"])
    images = load_data(cfg.data)
    few = replace(images, train=images.train[:64], train_labels=images.train_labels[:64])
    net, graph = module(0.0, 1).net.eval(), standard_graph("plain4", 0.5, 1, 10, 16)
    said = answers(cfg.data, net, graph, few, normalize(few.train, cfg.data))
    assert said.shape == (2, 64, 10) and torch.allclose(said.sum(2), torch.ones(2, 64))
    label = torch.nn.functional.one_hot(few.train_labels, 10)
    assert torch.allclose(targets(cfg.finish.distill, cfg.data, few, said), 0.25 * label + 0.75 * said)


def test_easy_images_are_those_of_whose_labels_the_answers_are_sure() -> None:
    said = torch.full((2, 4, 10), 0.02)
    labels = torch.arange(4)
    for image, share in enumerate((0.9, 0.83, 0.86, 0.2)):
        said[:, image, image] = share
    said[1, 2, 2] = 0.8  # mirrored it is less sure
    assert easy_images(said, labels, 0.93, 0.1).tolist() == [True, False, False, False]  # a smoothed label asks for 0.91
    assert easy_images(said, labels, 0.91, 0.1).tolist() == [True, True, True, False]
    assert not easy_images(said, labels, 1.0, 0.1).any()


def test_a_batch_has_the_answers_to_its_own_images_mirrored_or_not() -> None:
    cfg = compose("train", ["experiment=tiny", "data.flip=true"])
    images = load_data(cfg.data)
    mean = torch.stack([side.float().mean((1, 2, 3)) for side in (images.train[..., :8], images.train[..., 8:])])
    labels = torch.stack([mean, mean.flip(0)]).permute(0, 2, 1)  # of the left and the right half; a mirror swaps them
    taught = replace(images, train_labels=labels)
    for pixels, answers_ in ImagesModule(taught, cfg.data, 64, 0).train_dataloader():
        halves = torch.stack([pixels[..., :8].float().mean((1, 2, 3)), pixels[..., 8:].float().mean((1, 2, 3))], 1)
        assert torch.equal(halves, answers_)


def test_the_largest_teaches_the_others(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("finished", "partial", "models"))
    found = yaml.safe_load((folder / "pareto.yaml").read_text())
    space = load_supernet(folder / "qat.ckpt", hyperspace(compose("train", TINY)))[1]
    subnets = {"small": Subnet.smallest(space), "large": Subnet.largest(space)}
    found["chosen"] = [found["chosen"][0] | {"name": name, "subnet": str(subnet)} for name, subnet in subnets.items()]
    (folder / "pareto.yaml").write_text(yaml.safe_dump(found))
    taught = []
    trained = finishing.train_alone

    def told(
        folder: Folder, cfg: Config, recipe: FinishConfig, name: str, own: Elastic, graph: Graph, images: Images, *more: Any
    ) -> int:
        assert (more[-1] is None) == (name == "large")  # nobody told it what is easy
        taught.append((name, images.train_labels.dim() == 3, recipe.epochs))
        return trained(folder, cfg, recipe, name, own, graph, images, *more)

    monkeypatch.setattr(finishing, "train_alone", told)
    finish(compose("train", [*TINY, f"run_dir={folder}", "finish.first=3"]))
    assert taught == [("large", False, 3), ("small", True, 1)]
    steps = [load_checkpoint(folder / f"finished/{name}.ckpt")["steps"] for name in ("large", "small")]
    assert steps[0] > 3 * steps[1]  # whose epoch has fewer images


def told_bits(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["weight_bits"])


def test_what_is_no_finished_subnet_is_named(tiny_run: Path, tmp_path: Path) -> None:
    space = SearchSpace.parse("tiny-0120-0000", hyperspace(compose("train", TINY)))
    save_checkpoint(tmp_path / "other.ckpt", {"state_dict": {}})
    with pytest.raises(UserError, match=r"other\.ckpt: not the checkpoint of a finished subnet"):
        load_finished(tmp_path / "other.ckpt", space, QUANT)
    path = next(tiny_run.glob("finished/*.ckpt"))
    with pytest.raises(UserError, match=r"trained with weights of \d bits, this device's have 4"):
        load_finished(path, space, Quantizer(4))
