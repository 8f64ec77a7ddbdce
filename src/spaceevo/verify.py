"""``python -m spaceevo.verify``: whether what a model's card claims holds on this machine."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.run import say
from spaceevo.app.standalone import VerifyConfig, claimed_data
from spaceevo.errors import ClaimError


def run(cfg: VerifyConfig) -> None:
    """Run the card's files over its test images, print claim by claim what holds, and keep it as ``verify.json``.

    Raises:
        UserError: the card or a file is missing, truncated or changed.
        ClaimError: an accuracy does not hold here.
    """
    from dataclasses import asdict
    from pathlib import Path

    from tqdm import tqdm

    from spaceevo.atomic import write_json
    from spaceevo.data import Normalized, load_data
    from spaceevo.deploy import verify
    from spaceevo.deploy.export import AtSize
    from spaceevo.latency import host

    folder = Path(cfg.path)
    card = verify.read_card(folder)
    files = verify.read_files(folder, card)
    data = claimed_data(cfg.data, card["data"], str(folder / "card.json"))
    images = load_data(data, test=True)
    assert images.test is not None and images.test_labels is not None
    small = AtSize(Normalized(images.test, data), card["input"]["shape"][-1])
    say(f"verify: {card['name']} over {len(small)} test images of {data.name}")
    with tqdm(total=len(files) * len(small), desc="verify", disable=not cfg.progress_bar, leave=False) as bar:
        done: dict[str, int] = {}

        def progress(name: str, count: int) -> None:
            bar.update(count - done.get(name, 0))
            done[name] = count

        claims = verify.verify_files(card, files, folder, small, images.test_labels.numpy(), cfg.top1_points, progress)
    claims = [*verify.machine_claims(card), *claims]
    broken = [claim for claim in claims if claim.must and not claim.holds]
    say(verify.table(claims))
    record = dict(holds=not broken, claims=[asdict(claim) for claim in claims], host=host.describe(), versions=host.versions())
    path = Path(cfg.out_dir or cfg.path) / "verify.json"
    try:
        say(f"verify: {write_json(path, record)}")
    except OSError as error:
        say(f"verify: {path} could not be written ({error.strerror}); out_dir=<folder> keeps it elsewhere")
    if broken:
        words = [f"{claim.of}: {claim.what} is {claim.here} here, {claim.card} on the card" for claim in broken]
        raise ClaimError(f"verify: {card['name']} is not what its card claims; {'; '.join(words)}{_hint(card)}")
    say(f"verify: {card['name']} holds what its card claims about accuracy")


def _hint(card: dict) -> str:
    """Why an INT8 file of this machine may be less accurate."""
    from spaceevo.latency import host

    if card.get("weight_bits") == 8 and host.weight_bits("auto") == 7:
        return " (8-bit weights saturate in onnxruntime on a CPU without VNNI: session.x64quantprecision=1 makes them exact)"
    return ""


main = entrypoint("verify", run)

if __name__ == "__main__":
    main()
