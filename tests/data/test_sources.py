"""Lists of cases from every kind of source, and all problems of a list in one error."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from minivess import paths
from minivess.config.schema import DataConfig, Experiment, PhantomConfig
from minivess.data.sources import SourceCase, list_cases, source_files
from minivess.errors import MinivessError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_volumes = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real volumes are not there: no folder {SHARED}"
)
ROOT = Path("results/x")


def experiment(**data: Any) -> Experiment:
    return Experiment(name="x", data=DataConfig(**data))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not read")


def csv_of(tmp_path: Path, text: str | bytes) -> Experiment:
    path = tmp_path / "cases.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return experiment(source="csv", path=str(path))


def error_of(config: Experiment) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        list_cases(config, ROOT)
    assert caught.value.fix
    return caught.value


def test_phantom():
    config = Experiment(name="x", phantom=PhantomConfig(n_cases=12))
    cases = list_cases(config, ROOT)
    assert [case.case for case in cases][:2] == ["phantom_001", "phantom_002"]
    assert len(cases) == 12
    assert cases[11] == SourceCase(
        "phantom_012",
        paths.phantom_folder(ROOT) / "images" / "phantom_012.nii.gz",
        paths.phantom_folder(ROOT) / "labels" / "phantom_012.nii.gz",
        "phantom_012",
    )
    assert source_files(config, ROOT) == []


def test_csv_plain(tmp_path):
    cases = list_cases(
        csv_of(tmp_path, "case,image,label\nb,i/b.tif,l/b.tif\na,/a.tif,l.tif\n"), ROOT
    )
    assert cases == [
        SourceCase("a", Path("/a.tif"), tmp_path / "l.tif", "a"),
        SourceCase("b", tmp_path / "i/b.tif", tmp_path / "l/b.tif", "b"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_dialects(tmp_path, delimiter, bom, newline):
    number = "0.994" if delimiter == "," else "0,994"
    rows = [
        ["Case ", "image", "label", "group", "spacing_x_um", "spacing_y_um", "spacing_z_um"],
        ["a", "a.tif", "b.tif", " mouse1 ", number, number, "5"],
        [""] * 7,
        ["b", '"c d.tif"', "e.tif"],
    ]
    text = newline.join(["", *(delimiter.join(row) for row in rows), ""])
    cases = list_cases(csv_of(tmp_path, bom + text.encode()), ROOT)
    assert cases[0].group == "mouse1"
    assert cases[0].spacing_um == (0.994, 0.994, 5.0)
    assert cases[1].image == tmp_path / "c d.tif"
    assert cases[1].spacing_um is None


def test_csv_unit_of_a_row_wins_over_the_configuration(tmp_path):
    text = "case,image,label,spacing_unit\na,a,a_,mm\nb,b,b_,\nc,c,c_,header\n"
    path = tmp_path / "cases.csv"
    path.write_text(text, encoding="utf-8")
    cases = list_cases(experiment(source="csv", path=str(path), spacing_unit="um"), ROOT)
    assert [case.spacing_unit for case in cases] == ["mm", None, "header"]


def test_csv_unknown_column_names_the_nearest(tmp_path):
    error = error_of(csv_of(tmp_path, "case,image,label,grup\na,a,b,c\n"))
    assert error.code == "MV-DATA-013"
    assert "'grup'" in error.found
    assert "'group'" in error.fix


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("case,image", "no column 'label'"),
        ("case,image,label,spacing_x_um", "no column spacing_y_um, spacing_z_um"),
        ("case,image,label,label", "column 'label' twice"),
        ("case,image,label,", "a column without a name"),
    ],
)
def test_csv_header_problems(tmp_path, header, found):
    error = error_of(csv_of(tmp_path, f"{header}\na,a,b\n"))
    assert error.code == "MV-DATA-013"
    assert found in error.found


def test_csv_all_problems_of_all_rows_in_one_error(tmp_path):
    text = (
        "case,image,label,group,spacing_x_um,spacing_y_um,spacing_z_um,spacing_unit\n"
        "a,a.tif,b.tif,,,,,\n"
        "a,a.tif,b.tif,,,,,\n"
        "\n"
        ",c.tif,d.tif,,,,,\n"
        "../e,e.tif,,,,,,\n"
        "f,f.tif,g.tif,bad group,1,x,0,inch\n"
        "h,h.tif,i.tif,,1,1,,um\n"
        "j,j.tif,k.tif,,,,,um,extra\n"
    )
    error = error_of(csv_of(tmp_path, text))
    assert error.code == "MV-DATA-013"
    for part in (
        "line 3: case a is also on line 2",
        "line 5: case is empty",
        "line 6: label is empty",
        "line 6: case '../e'",
        "line 7: group 'bad group'",
        "line 7: spacing_unit 'inch'",
        "line 7: spacing_y_um 'x'",
        "line 7: spacing_z_um '0'",
        "line 8: spacing_z_um ''",
        "line 9: 9 fields under 8 columns",
    ):
        assert part in error.found
    assert "10 problems" in error.what
    assert "three positive numbers" in error.fix
    assert "own name" in error.fix


def test_csv_duplicates_alone(tmp_path):
    error = error_of(csv_of(tmp_path, "case,image,label\na,a,b\nb,c,d\na,e,f\n"))
    assert error.code == "MV-DATA-011"
    assert "line 4: case a is also on line 2" in error.found


def test_csv_long_lists_of_problems_are_counted(tmp_path):
    rows = "".join(f"c{number},,\n" for number in range(40))
    error = error_of(csv_of(tmp_path, "case,image,label\n" + rows))
    assert "80 problems" in error.what
    assert "and 60 more" in error.found


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", "case,image,label\n\u00e4,b,c\n".encode("latin-1")], ids=repr
)
def test_csv_that_cannot_be_used(tmp_path, text):
    assert error_of(csv_of(tmp_path, text)).code == "MV-DATA-013"


def test_csv_without_rows(tmp_path):
    error = error_of(csv_of(tmp_path, "case,image,label\n"))
    assert error.code == "MV-DATA-013"
    assert "no case is left" in error.what


def test_missing_path():
    error = error_of(experiment(source="csv"))
    assert error.code == "MV-CONFIG-004"
    assert "data.path" in error.fix
    error = error_of(experiment(source="csv", path="nowhere.csv"))
    assert error.code == "MV-DATA-001"
    assert error.where == "nowhere.csv"


def test_exclude(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("case,image,label\nmv01,a,b\nmv02,c,d\n", encoding="utf-8")
    kept = list_cases(experiment(source="csv", path=str(path), exclude=("mv01",)), ROOT)
    assert [case.case for case in kept] == ["mv02"]
    error = error_of(experiment(source="csv", path=str(path), exclude=("mv1",)))
    assert error.code == "MV-CONFIG-004"
    assert "did you mean mv01?" in error.fix
    error = error_of(experiment(source="csv", path=str(path), exclude=("mv01", "mv02")))
    assert error.code == "MV-DATA-013"


LAYOUTS = {
    "official": ("raw/{}.nii.gz", "seg/{}_y.nii.gz", "json/{}.json"),
    "one level down": ("MiniVess/raw/{}.nii.gz", "MiniVess/seg/{}_y.nii.gz"),
    "equal names": ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    "flat": ("{}.nii.gz", "{}_y.nii.gz"),
    "uncompressed": ("raw/{}.nii", "seg/{}.nii"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("names", [("mv01",), ("mv70", "mv02", "mv10")], ids=["one", "three"])
def test_minivess_layouts(tmp_path, layout, packed, names):
    folder = tmp_path / "set"
    members = [pattern.format(name) for name in names for pattern in LAYOUTS[layout]]
    touch(folder, *members, ".DS_Store", "__MACOSX/raw/._mv01.nii.gz", "readme.txt")
    path, base = folder, folder
    if packed:
        path, base = tmp_path / "set.zip", paths.unpacked_folder(ROOT)
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
    config = experiment(source="minivess", path=str(path))
    cases = list_cases(config, ROOT)
    assert [case.case for case in cases] == sorted(names)
    image, label = (pattern.format(cases[0].case) for pattern in LAYOUTS[layout][:2])
    assert cases[0] == SourceCase(
        cases[0].case, base / image, base / label, cases[0].case, layout_unit="um"
    )
    expected = [path] if packed else sorted(p for c in cases for p in (c.image, c.label))
    assert source_files(config, ROOT) == expected


def test_minivess_files_without_partner(tmp_path):
    touch(tmp_path, "raw/mv01.nii.gz", "seg/mv01_y.nii.gz", "raw/mv02.nii.gz", "seg/mv03_y.nii.gz")
    error = error_of(experiment(source="minivess", path=str(tmp_path)))
    assert error.code == "MV-DATA-013"
    assert "mv02, mv03_y" in error.found
    assert "data.exclude: [mv02, mv03_y]" in error.fix
    config = experiment(source="minivess", path=str(tmp_path), exclude=("mv02", "mv03_y"))
    assert [case.case for case in list_cases(config, ROOT)] == ["mv01"]


def test_minivess_two_copies(tmp_path):
    for top in ("one", "two"):
        touch(tmp_path, f"{top}/raw/mv01.nii.gz", f"{top}/seg/mv01_y.nii.gz")
    error = error_of(experiment(source="minivess", path=str(tmp_path)))
    assert error.code == "MV-DATA-013"
    assert "two/raw/mv01.nii.gz" in error.found


def test_minivess_nothing_found(tmp_path):
    touch(tmp_path, "raw/mv01.nii.gz")
    error = error_of(experiment(source="minivess", path=str(tmp_path)))
    assert error.code == "MV-DATA-013"
    assert "seg/mv01_y.nii.gz" in error.expected


def test_minivess_damaged_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK not really")
    error = error_of(experiment(source="minivess", path=str(tmp_path / "a.zip")))
    assert error.code == "MV-DATA-002"
    assert "a.zip" in error.where


def nnunet(tmp_path: Path, content: object, *names: str) -> Experiment:
    touch(tmp_path, *names)
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return experiment(source="nnunet", path=str(tmp_path))


ONE_CHANNEL = {"channel_names": {"0": "2PM"}, "file_ending": ".nrrd"}
PAIR = ("imagesTr/v_01_0000.nrrd", "labelsTr/v_01.nrrd")


def test_nnunet(tmp_path):
    beside = ("imagesTr/v_01_0000.json", "imagesTr/._v_01_0000.nrrd", "labelsTr/._v_01.nrrd")
    config = nnunet(tmp_path, ONE_CHANNEL, *PAIR, *beside)
    (case,) = list_cases(config, ROOT)
    assert case == SourceCase("v_01", tmp_path / PAIR[0], tmp_path / PAIR[1], "v_01")
    assert tmp_path / "dataset.json" in source_files(config, ROOT)


@pytest.mark.parametrize(
    ("content", "names", "found"),
    [
        ({**ONE_CHANNEL, "channel_names": {"0": "a", "1": "b"}}, PAIR, '"1": "b"'),
        ({"channel_names": {"0": "a"}}, PAIR, "file_ending: None"),
        (ONE_CHANNEL, (*PAIR, "imagesTr/v_01_0001.nrrd"), "v_01_0001"),
        (ONE_CHANNEL, (*PAIR, "labelsTr/v_02.nrrd"), "v_02"),
        (ONE_CHANNEL, ("imagesTr/v_01.nrrd", "labelsTr/v_01.nrrd"), "v_01"),
        (ONE_CHANNEL, (), "no pair"),
    ],
    ids=["channels", "no ending", "second channel", "label alone", "no number", "empty"],
)
def test_nnunet_problems(tmp_path, content, names, found):
    error = error_of(nnunet(tmp_path, content, *names))
    assert error.code == "MV-DATA-013"
    assert found in error.found


def test_nnunet_dataset_json(tmp_path):
    touch(tmp_path, *PAIR)
    config = experiment(source="nnunet", path=str(tmp_path))
    assert error_of(config).code == "MV-DATA-001"
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    assert error_of(config).code == "MV-DATA-013"


def test_source_files_leave_missing_ones_to_validation_and_know_detached_voxels(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    config = csv_of(tmp_path, "case,image,label\na,a.mhd,missing.tif\n")
    names = [file.name for file in source_files(config, ROOT)]
    assert names == ["a.mhd", "a.raw", "cases.csv"]


def test_listing_imports_nothing_heavy(tmp_path):
    csv_of(tmp_path, "case,image,label\na,a,b\n")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from minivess.config.schema import DataConfig, Experiment\n"
        "from minivess.data.sources import list_cases\n"
        f"data = DataConfig(source='csv', path={str(tmp_path / 'cases.csv')!r})\n"
        "list_cases(Experiment(name='x', data=data), Path('r'))\n"
        "heavy = {'scipy', 'polars', 'torch', 'nibabel', 'SimpleITK', 'pandera'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@needs_volumes
def test_real_list_of_cases():
    config = experiment(source="csv", path=str(SHARED / "vesselnn" / "cases.csv"))
    cases = list_cases(config, ROOT)
    assert len(cases) == 6
    assert all(case.image.is_file() and case.label.is_file() for case in cases)
    assert cases[2].spacing_um == (0.621, 0.621, 5.0)
    assert len(source_files(config, ROOT)) == 13
