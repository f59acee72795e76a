"""The segmentation service: BentoML around ONNX Runtime, for one exported champion.

    bentoml serve minivess.deploy.service:Segmenter --arg bundle=results/demo/deploy/overlap

`minivess serve` starts it with the deployment settings. No torch, MONAI or MLflow is imported.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import bentoml
import numpy as np
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from minivess.config.settings import load_settings
from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.sources import SpacingUnit
from minivess.data.volume import Volume
from minivess.deploy import openapi
from minivess.deploy.answer import AbandonedError, Answer, Desk, answer
from minivess.deploy.bundle import read_bundle
from minivess.deploy.counters import Counters
from minivess.deploy.door import CLIENT_GONE, FORM, GONE, Door, Rules
from minivess.deploy.form import AnswerKind, Form
from minivess.deploy.problems import as_problem, problem
from minivess.deploy.segment import open_session, segment
from minivess.deploy.upload import Limits

if TYPE_CHECKING:
    from minivess.types import Spacing


class Arguments(BaseModel):
    """What `bentoml serve --arg` gives."""

    bundle: Path = Path("bundle")


ARGUMENTS = bentoml.use_arguments(Arguments)
SETTINGS = load_settings()
RULES = Rules(
    SETTINGS.token,
    SETTINGS.host,
    Limits(SETTINGS.max_upload_mb << 20, SETTINGS.max_voxels),
    SETTINGS.max_seconds,
    SETTINGS.max_concurrency,
    SETTINGS.max_queue,
)
COUNTERS = Counters()


class SegmentationForm(bentoml.IODescriptor):  # type: ignore[misc]
    """The form as the OpenAPI page shows it; `minivess.deploy.form` has read and checked it."""

    volume: Path = Field(description="NIfTI (.nii, .nii.gz) or TIFF stack, one channel")
    reference: Path | None = Field(
        None, description="label of 0 and 1 in the same geometry, to compare the mask with"
    )
    spacing_um: str = Field(
        "", description="voxel size x,y,z in um, for files without spacing or with a wrong one"
    )
    spacing_unit: SpacingUnit = Field(
        "header", description="unit of the header's spacing, for headers that name none"
    )
    answer: AnswerKind = Field(
        "mask",
        description="mask, probability: NIfTI; report: JSON with vessel measures and, with a "
        "reference, metrics; all: a ZIP of the three",
    )

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Self:
        """The form that the door has read."""
        form: Self = cls.model_construct(**vars(request.scope[FORM]))
        return form


@bentoml.service(
    name="minivess",
    workers=1,
    threads=SETTINGS.max_concurrency,
    # The door has its own limits, whose answers say what to do; these only must not come first.
    traffic={"timeout": 10 * SETTINGS.max_seconds * (SETTINGS.max_queue + 2)},
    # Its labels are the paths that clients choose, as many as they like: counted by the door.
    metrics={"enabled": False},
)
class Segmenter:
    """Vessel masks of 3D volumes."""

    def __init__(self) -> None:
        bundle = read_bundle(ARGUMENTS.bundle)
        self.desk = Desk(
            open_session(bundle, SETTINGS.threads), bundle, RULES.limits, RULES.max_seconds
        )
        self._warm_up()

    def _warm_up(self) -> None:
        """Segment one window, so that the first request finds everything loaded and allocated."""
        shape = self.desk.bundle.window
        ramp = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        geometry = Geometry(shape, diagonal_affine(self.desk.bundle.spacing_um))
        segment(self.desk.session, self.desk.bundle, Volume(ramp, geometry))

    @bentoml.api(route="/segment", input_spec=SegmentationForm)  # type: ignore[untyped-decorator]
    def segment(
        self,
        volume: Path,
        reference: Path | None,
        spacing_um: Spacing | None,
        spacing_unit: SpacingUnit,
        answer: AnswerKind,
    ) -> Path:
        """Segment a volume."""
        form = Form(volume, reference, spacing_um, spacing_unit, answer)
        return self._answered(form, GONE.get(threading.Event()))  # type: ignore[return-value]

    def _answered(self, form: Form, gone: threading.Event) -> Response:
        start = time.perf_counter()
        try:
            made = answer(self.desk, form, form.volume.parent, gone)
        except AbandonedError:
            return Response(status_code=CLIENT_GONE)  # nobody reads it
        except Exception as error:
            shown = as_problem(error)
            COUNTERS.problems.labels(shown.code).inc()
            return problem(shown)
        COUNTERS.seconds.observe(time.perf_counter() - start)
        COUNTERS.voxels.inc(made.voxels)
        return self._file(made)

    def _file(self, made: Answer) -> Response:
        headers = {
            "ETag": f'"{made.sha256}"',
            "Repr-Digest": openapi.digest_field(made.sha256),
            "X-Minivess-Champion": self.desk.bundle.digest,
            "Cache-Control": "no-store",
        }
        return FileResponse(made.path, 200, headers, made.media_type, filename=made.name)


# The decorator makes an object of BentoML of the class.
_SERVICE = cast("Any", Segmenter)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return openapi.document(_SERVICE.openapi_spec.asdict(), bool(RULES.token), RULES.limits)


_SERVICE.add_asgi_middleware(
    Door,
    rules=RULES,
    counters=COUNTERS,
    pages={
        "/": lambda: HTMLResponse(openapi.PAGE, headers=openapi.PAGE_HEADERS),
        "/docs.json": lambda: JSONResponse(document()),
        "/metrics": lambda: Response(COUNTERS.text(), media_type=COUNTERS.media_type),
    },
)
