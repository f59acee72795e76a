"""The steps that make a bundle of each champion: export, comparison with the trained one, card."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import output, paths, provenance
from minivess.config.load import load_step
from minivess.logs import say
from minivess.steps.champion import read_champions

if TYPE_CHECKING:
    from minivess.config.schema import Experiment
    from minivess.deploy.bundle import Bundle
    from minivess.deploy.champions import Winner
    from minivess.deploy.parity import CaseParity
    from minivess.types import Float32Array


def _winners(root: Path) -> list[Winner]:
    from minivess.deploy.champions import winners

    return winners(root, read_champions(root)["champions"])


def export(root: Path) -> None:
    """Write the network of each champion as ONNX; one that won by several rules is exported once.

    Raises:
        MinivessError: MV-STATE-002, MV-STATE-005 the champion's run is not what won,
            MV-DEPLOY-001 its architecture cannot be exported.
    """
    from minivess.config.schema import ComputeConfig
    from minivess.deploy.onnx import export_network
    from minivess.inference.device import prepare_torch
    from minivess.inference.predict import load_network

    config = load_step(paths.step_config(root, "deploy_onnx"))
    prepare_torch(ComputeConfig())
    for winner in _winners(root):
        trained, window = load_network(winner.folder), winner.window(config.inference)
        model = export_network(trained.network, window, trained.any_window)
        folders = [paths.bundle(root, kind) for kind in winner.kinds]
        for folder in folders:
            with output.replacing(paths.bundle_model(folder)) as temporary:
                temporary.write_bytes(model)
        for variant in config.deploy.variants:
            _write_variant(root, winner, config, variant, model)
        shared = f", one file for {' and '.join(winner.kinds)}" if len(folders) > 1 else ""
        say(f"{winner.run}: {len(model) / 1e6:.1f} MB{shared}")


def _write_variant(
    root: Path, winner: Winner, config: Experiment, variant: Any, model: bytes
) -> None:
    from minivess.deploy.variants import make_variant

    made = make_variant(model, variant, _calibration(root, winner, config))
    for kind in winner.kinds:
        with output.replacing(paths.bundle_variant(paths.bundle(root, kind), variant)) as temporary:
            temporary.write_bytes(made)


def _calibration(root: Path, winner: Winner, config: Experiment) -> Iterator[Float32Array]:
    """Windows of the selection cases, which no reported number is of, a batch at a time."""
    import numpy as np

    from minivess.data.preprocess import open_case
    from minivess.inference.windows import mirrored, windows_of

    window = winner.window(config.inference)
    for case in winner.record["cases"]["selection"]:
        image, _ = mirrored(np.array(open_case(paths.preprocessed_case(root, case)).image), window)
        x, y, z = image.shape
        for place in windows_of((x, y, z), window, 0.0):
            yield image[place][None]


def parity(root: Path) -> None:
    """Compare what each exported network predicts with the DAG's predictions, on held-out cases.

    Whatever it finds is written; whether it is good enough is asked by `bundle`.

    Raises:
        MinivessError: MV-STATE-... as `export`; MV-DATA-... from reading.
    """
    from minivess.deploy.champions import described

    config = load_step(paths.step_config(root, "deploy_parity"))
    timing: dict[str, dict[str, float]] = {}
    for winner in _winners(root):
        one = described(root, winner, winner.kinds[0], config)
        found: dict[str, Any] = {}
        timing[winner.run] = {}
        for variant in (None, *config.deploy.variants):
            name: str = variant or "float32"
            started = time.perf_counter()
            found[name] = _compared(root, winner, _with_variants(one, config), config, variant)
            timing[winner.run][name] = round(time.perf_counter() - started, 3)
        report = {
            "run": winner.run,
            "profile": config.compute.profile,
            "model_sha256": provenance.file_sha256(one.model),
            "variants": found,
        }
        for kind in winner.kinds:
            output.write_json(report, paths.bundle_parity(paths.bundle(root, kind)))
        for label, measured in found.items():
            say(
                f"{winner.run} {label}: probabilities differ by up to "
                f"{measured['max_difference']:.2g}, smallest Dice {measured['min_dice']:.6f}, "
                f"{timing[winner.run][label]:.1f} s for {len(measured['cases'])} cases"
            )
    output.write_json(timing, paths.deploy_timing(root))


def _with_variants(bundle: Bundle, config: Experiment) -> Bundle:
    folder = bundle.folder
    names = {v: paths.bundle_variant(folder, v).name for v in config.deploy.variants}
    return bundle.model_copy(update={"variants": names})


def _compared(
    root: Path, winner: Winner, bundle: Bundle, config: Experiment, variant: str | None
) -> dict[str, Any]:
    from minivess.data.manifest import geometry_of, read_image, read_manifest
    from minivess.data.volume import Volume, read_made
    from minivess.deploy.parity import compare_case, summarised
    from minivess.deploy.segment import open_session, segment

    session = open_session(bundle, config.compute.threads, variant)
    rows = {row["case"]: row for row in read_manifest(paths.manifest(root)).iter_rows(named=True)}
    cases: dict[str, CaseParity] = {}
    for case in sorted(winner.record["cases"]["validation"]):
        volume = Volume(read_image(rows[case]), geometry_of(rows[case]))
        trained = read_made(paths.probability(winner.folder, case))
        mask = read_made(paths.prediction(winner.folder, case))
        found = segment(session, bundle, volume).probability
        cases[case] = compare_case(trained, mask, found, bundle.threshold)
    return summarised(cases)


def bundle(root: Path) -> None:
    """Check parity, write card and record of each champion, and register them in MLflow.

    Raises:
        MinivessError: MV-DEPLOY-002 an exported network is not what was trained; MV-TRACK-... the
            store cannot be reached or lacks the run.
    """
    from minivess.deploy.parity import check_parity
    from minivess.steps.deploy_card import write_files
    from minivess.tracking.address import tracking_uri
    from minivess.tracking.exported import Exported, register_exported

    config = load_step(paths.step_config(root, "deploy"))
    found = _winners(root)
    for winner in found:
        path = paths.bundle_parity(paths.bundle(root, winner.kinds[0]))
        check_parity(output.read_json(path), config.deploy, str(path))
    made = {
        kind: (winner, write_files(root, winner, kind, config))
        for winner in found
        for kind in winner.kinds
    }
    exported = {
        kind: Exported(
            run=winner.key,
            model_sha256=one.files[one.model.name],
            source=one.folder.as_posix(),
            tags={"licence": one.licence, "minivess.bundle_sha256": one.digest},
            description=f"Champion {kind} of {root.name}: {one.run}. "
            f"Card: {paths.model_card(one.folder).as_posix()}",
        )
        for kind, (winner, one) in made.items()
    }
    numbers = register_exported(tracking_uri(), root.name, exported)
    for kind, (_, one) in made.items():
        say(f"{kind}: {one.folder}, version {numbers[kind]} in MLflow")
