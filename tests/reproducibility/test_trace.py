"""A chain: complete, readable, found again after a move, and checked file by file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_experiment import GIVEN, JOBS, PREDICTION, PREPARED, ROOT, SUMMARY, Small, sha256

from minivess import output, paths, stepcode
from minivess.errors import MinivessError
from minivess.reproducibility.chain import chain_of, whole_chain
from minivess.reproducibility.check import check_chain
from minivess.reproducibility.graph import write_graph
from minivess.reproducibility.trace import as_json, as_text


def check(name: str = SUMMARY) -> list[str]:
    return check_chain(chain_of(Path(name)))


def changed(name: str = SUMMARY) -> MinivessError:
    with pytest.raises(MinivessError, match="MV-STATE-005") as caught:
        check(name)
    return caught.value


def test_jobs_come_after_what_they_need_and_no_other_is_there(small: Small) -> None:
    assert [job.rule for job in chain_of(Path(SUMMARY)).jobs] == list(JOBS)
    assert [job.rule for job in chain_of(Path(PREPARED)).jobs] == ["manifest", "preprocess"]
    assert [job.rule for job in whole_chain(ROOT).jobs] == list(JOBS)


def test_the_tree_leads_from_the_result_to_the_volumes(small: Small) -> None:
    lines = as_text(chain_of(Path(SUMMARY))).splitlines()
    assert lines[0] == f"tables/summary.json  {sha256(Path(SUMMARY))[:12]}"
    assert lines[1] == "made by compare: minivess compare -e x"
    assert f"code {stepcode.step_digest('compare')}, commit 000000000000, lock" in lines[2]
    text = "\n".join(lines)
    places = [text.index(f"made by {rule}") for rule in reversed(JOBS)]
    assert places == sorted(places)
    assert f"config/preprocess.yaml {sha256(ROOT / 'config/preprocess.yaml')[:12]}" in text
    volume = f"scans/a.nii.gz  {sha256(Path(GIVEN[0]))[:12]}, ..."
    assert f"2 volumes and labels given by the user: {volume}" in text
    assert lines[-1].endswith("given by the user")


def test_what_was_shown_is_not_repeated_and_jobs_of_a_rule_share_a_line(small: Small) -> None:
    cases = [f"results/x/runs/net/dice_ce/seed0/fold0/metrics/{case}.parquet" for case in "abc"]
    jobs = [
        {"rule": "evaluate", "command": f"minivess evaluate --case {case}", "log": []}
        | {"inputs": [PREDICTION, PREPARED], "outputs": [case]}
        for case in cases
    ]
    last = {"rule": "track", "command": "minivess track", "log": []}
    last |= {"inputs": cases, "outputs": ["results/x/tracked.json"]}
    write_graph(ROOT, [*jobs, last], None)
    chain = chain_of(Path("results/x/tracked.json"))
    text = as_text(chain)
    assert "made by 3 jobs of evaluate, the first one: minivess evaluate" in text
    assert text.count("made by preprocess") == 2
    assert text.count("made by preprocess: minivess preprocess -e x (see above)") == 1
    assert text.count("made by manifest") == 1
    everything = as_text(chain, everything=True)
    assert everything.count("made by evaluate") == 3
    assert "..." not in everything


def test_json_has_the_whole_chain(small: Small) -> None:
    values = json.loads(as_json(chain_of(Path(SUMMARY))))
    assert values["file"] == SUMMARY
    assert values["sha256"] == sha256(Path(SUMMARY))
    assert values["given"] == {name: sha256(Path(name)) for name in GIVEN}
    assert [job["rule"] for job in values["jobs"]] == list(JOBS)
    assert values["jobs"][2]["inputs"] == {PREPARED: sha256(Path(PREPARED))}
    assert values["jobs"][2]["record"]["code"] == stepcode.step_digest("predict")


def test_a_file_may_be_named_in_any_way_and_need_not_be_there(small: Small) -> None:
    Path(SUMMARY).unlink()
    for path in (small.folder / SUMMARY, Path("results/../results/x/tables/summary.json")):
        assert chain_of(path).target == SUMMARY


def test_a_copy_elsewhere_is_traced_and_checked(
    small: Small, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(small.root, elsewhere / "renamed")
    shutil.rmtree(small.root)
    monkeypatch.chdir(elsewhere)
    name = "renamed/tables/summary.json"
    assert as_text(chain_of(Path(name))).startswith("tables/summary.json")
    notes = check(name)
    assert notes[0].startswith("6 files are what they were")
    assert "not here" in notes[1]
    assert "scans/a.nii.gz" in notes[1]
    output.write_text("other", elsewhere / "renamed" / Path(PREDICTION).relative_to(ROOT))
    assert "predictions/a.nii.gz" in changed(name).where


def test_an_unknown_file_has_a_suggestion(small: Small) -> None:
    with pytest.raises(MinivessError, match="MV-CONFIG-003") as caught:
        chain_of(Path("results/x/tables/sumary.json"))
    assert caught.value.fix == f"did you mean {SUMMARY}?"


def test_a_file_of_no_experiment_and_one_without_graph(small: Small) -> None:
    with pytest.raises(MinivessError, match="MV-STATE-002") as caught:
        chain_of(Path("scans/a.nii.gz"))
    assert "results/<experiment>/" in caught.value.expected
    paths.job_graph(ROOT).unlink()
    with pytest.raises(MinivessError, match="MV-STATE-002") as caught:
        chain_of(Path(SUMMARY))
    assert "dag.json" in caught.value.where


def test_an_untouched_chain_is_all_right(small: Small) -> None:
    notes = check()
    assert notes[0] == "9 files are what they were when the result was made"
    assert notes[1:] == [
        "made at another commit than this checkout: manifest, preprocess, predict, compare"
    ]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("scans/a_label.nii.gz", "changed since the manifest was made"),
        ("scans/cases.csv", "changed since manifest used it"),
        ("results/x/config/preprocess.yaml", "changed since preprocess used it"),
        (PREDICTION, "changed since predict made it"),
        (SUMMARY, "changed since compare made it"),
    ],
)
def test_every_changed_file_is_found(small: Small, name: str, what: str) -> None:
    output.write_text("other", Path(name))
    error = changed()
    shown = name.removeprefix("results/x/")
    assert error.exit_status == 5
    assert error.where == f"{shown}, the first one of the chain"
    assert f"{shown}: {what}" in error.found


def test_all_changed_files_are_named_the_first_of_the_chain_first(small: Small) -> None:
    Path(PREPARED).unlink()
    output.write_text("other", Path(PREDICTION))
    output.write_text("other", ROOT / "config" / "manifest.yaml")
    lines = changed().found.splitlines()
    assert lines[0] == "3 of 9 files:"
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "changed since manifest used it",
        "missing",
        "changed since predict made it",
    ]


def test_what_is_not_behind_a_result_does_not_matter(small: Small) -> None:
    output.write_text("other", Path(PREDICTION))
    assert check(PREPARED)[0].startswith("7 files")


def test_a_result_older_than_its_input_is_found(small: Small) -> None:
    """An input was made again, with its record; what was made from it before was not."""
    output.write_text("other", Path(PREPARED))
    small.record("preprocess")
    error = changed()
    assert "made from another data/preprocessed/a/image.npy than there is now" in error.found
    assert error.where.startswith("runs/net/dice_ce/seed0/fold0/predictions/a.nii.gz")


def test_other_code_and_missing_records_are_notes(small: Small) -> None:
    small.record("preprocess", code="0" * 16)
    (small.root / "logs" / "predict.json").unlink()
    notes = check()
    assert "made by other code than this checkout: preprocess" in notes
    assert any(
        note == f"without a recorded digest: {Path(PREDICTION).relative_to(ROOT)}" for note in notes
    )


def test_a_user_s_volume_of_two_files_is_checked_as_one(small: Small) -> None:
    """The manifest has one digest of header and voxels together."""
    import hashlib

    import polars as pl

    header = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementDataFile = a.raw\n"
    output.write_text(header, Path("scans/a.mhd"))
    output.write_text("voxels", Path("scans/a.raw"))
    row = {
        "image": "scans/a.mhd",
        "image_sha256": hashlib.sha256(f"{header}voxels".encode()).hexdigest(),
    }
    row |= {"label": GIVEN[1], "label_sha256": sha256(Path(GIVEN[1]))}
    output.write_parquet(pl.DataFrame([row]), ROOT / "data" / "manifest.parquet")
    small.record("manifest")
    job = small.job("manifest")
    job["inputs"] = ["scans/a.mhd", "scans/a.raw", *GIVEN[1:]]
    write_graph(ROOT, [job, small.job("preprocess")], None)
    assert check(PREPARED)[0].startswith("7 files")
    output.write_text("others", Path("scans/a.raw"))
    assert "scans/a.mhd: changed since the manifest was made" in changed(PREPARED).found
