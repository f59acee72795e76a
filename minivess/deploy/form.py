"""The form that a client posts: its fields checked, its files in a folder of their own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast, get_args

from minivess.data.sources import SpacingUnit
from minivess.deploy.upload import safe_name
from minivess.errors import MinivessError, nearest

if TYPE_CHECKING:
    from starlette.datastructures import FormData, UploadFile
    from starlette.requests import Request

    from minivess.types import Spacing

type AnswerKind = Literal["mask", "probability", "report", "all"]

FILES = ("volume", "reference")
UNITS: tuple[SpacingUnit, ...] = get_args(SpacingUnit.__value__)
ANSWERS: tuple[AnswerKind, ...] = get_args(AnswerKind.__value__)
FIELDS = (*FILES, "spacing_um", "spacing_unit", "answer")
MOST_FIELD_BYTES = 256


@dataclass(frozen=True)
class Form:
    """What is asked for.

    Attributes:
        volume: the file to segment.
        reference: a label to compare with, if any.
        spacing_um: voxel size (x, y, z) that counts over the file's.
        spacing_unit: unit of the file's spacing.
        answer: what to send back.
    """

    volume: Path
    reference: Path | None
    spacing_um: Spacing | None
    spacing_unit: SpacingUnit
    answer: AnswerKind


def wrong_form(what: str, found: str, fix: str) -> MinivessError:
    """The error for a request that is not the form."""
    return MinivessError("MV-SERVICE-007", what=what, where="the form", found=found, fix=fix)


async def read_form(request: Request, folder: Path) -> Form:
    """Read a posted form; its files go to `folder`, in pieces, under their own names.

    Raises:
        MinivessError: MV-SERVICE-007 not a form, unknown or missing fields; MV-UPLOAD-003,
            MV-UPLOAD-009 names of files.
    """
    import anyio.to_thread
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException

    if request.headers.get("content-type", "").split(";")[0].strip() != "multipart/form-data":
        raise wrong_form(
            "the request is not a form with files",
            f"Content-Type {request.headers.get('content-type', 'none')[:80]!r}",
            "post multipart/form-data: curl -F volume=@FILE.nii.gz",
        )
    try:
        form = await request.form(
            max_files=len(FILES), max_fields=len(FIELDS), max_part_size=MOST_FIELD_BYTES
        )
    except (HTTPException, MultiPartException, KeyError, ValueError) as error:
        raise wrong_form(
            "the form cannot be read",
            str(getattr(error, "detail", "") or getattr(error, "message", "") or error)[:200],
            "post multipart/form-data: curl -F volume=@FILE.nii.gz",
        ) from error
    try:
        _check_names(form)
        spacing_um = parse_spacing(_text(form, "spacing_um", ""))
        unit = _choice(form, "spacing_unit", UNITS)
        answer = _choice(form, "answer", ANSWERS)
        files: dict[str, Path] = {}
        for name in FILES:
            upload = form.get(name)
            if upload is not None:
                files[name] = folder / name / _file_name(name, upload)
                await anyio.to_thread.run_sync(_store, cast("UploadFile", upload).file, files[name])
    finally:
        await form.close()
    return Form(
        files["volume"],
        files.get("reference"),
        spacing_um,
        cast("SpacingUnit", unit),
        cast("AnswerKind", answer),
    )


def parse_spacing(text: str) -> Spacing | None:
    """The spacing x,y,z in um that a field says; none where it is empty.

    Raises:
        MinivessError: MV-SERVICE-007 not three positive numbers.

    >>> parse_spacing("0.99, 0.99, 5")
    (0.99, 0.99, 5.0)
    """
    if not text.strip():
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        x = y = z = 0.0
    if not all(0 < length < float("inf") for length in (x, y, z)):
        raise wrong_form(
            "spacing_um is not a voxel size",
            repr(text[:80]),
            "send three positive numbers in micrometres along x, y and z: spacing_um=0.99,0.99,5",
        )
    return x, y, z


def _check_names(form: FormData) -> None:
    names = [name for name, _ in form.multi_items()]
    for name in names:
        if name not in FIELDS:
            raise wrong_form(f"unknown field {name[:40]!r}", name[:40], nearest(name[:40], FIELDS))
        if names.count(name) > 1:
            raise wrong_form(f"the field {name} is there twice", name, "send it once")
    if "volume" not in names:
        raise wrong_form(
            "there is no volume", f"fields: {', '.join(names) or 'none'}", "add -F volume=@FILE"
        )


def _text(form: FormData, name: str, default: str) -> str:
    value = form.get(name, default)
    if not isinstance(value, str):
        raise wrong_form(f"{name} is a file", name, "send it as text")
    return value


def _choice(form: FormData, name: str, known: tuple[str, ...]) -> str:
    value = _text(form, name, known[0])
    if value not in known:
        raise wrong_form(f"{name} is not one of its values", value[:40], f"one of {known}")
    return value


def _file_name(name: str, upload: UploadFile | str) -> str:
    if isinstance(upload, str):
        raise wrong_form(f"{name} is text, not a file", upload[:40], f"curl -F {name}=@FILE.nii.gz")
    return safe_name(upload.filename or "")


def _store(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir()
    source.seek(0)
    with path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
