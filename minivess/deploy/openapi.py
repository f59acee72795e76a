"""The service's OpenAPI document and the page that shows it, with nothing from other sites."""

from __future__ import annotations

import base64
from typing import Any

from minivess import __version__
from minivess.deploy.door import PATH
from minivess.deploy.form import ANSWERS
from minivess.deploy.problems import HTTP_STATUS, MEDIA_TYPE, content
from minivess.deploy.upload import Limits
from minivess.errors import CODES, MinivessError

EXAMPLE = """\
curl -F volume=@mv01.nii.gz http://127.0.0.1:3000/segment -o mv01_mask.nii.gz
"""
DESCRIPTION = """\
Sends back the vessel mask of a volume, in the same geometry.

```
curl -F volume=@mv01.nii.gz http://127.0.0.1:3000/segment -o mv01_mask.nii.gz

# a TIFF stack, which has no spacing of its own; everything in one ZIP
curl -F volume=@stack.tif -F spacing_um=0.99,0.99,5 -F answer=all \\
    http://127.0.0.1:3000/segment -o stack.zip

# compared with a label: 41 metrics in JSON
curl -F volume=@mv01.nii.gz -F reference=@mv01_label.nii.gz -F answer=report \\
    http://127.0.0.1:3000/segment
```

The header `ETag` is the SHA-256 of the file that is sent. Errors are problem details
(`application/problem+json`) with a stable `code`, what was `found` and what `fix` helps; after 429
and 503 the header `Retry-After` says when to try again.
"""
# Swagger UI as BentoML brings it; its own page also loads a tracker, so this one takes its place.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>MiniVess segmentation service</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script src="./static_content/swagger-ui-standalone-preset.js"></script>
<script src="./static_content/swagger-initializer.js"></script>
</body>
</html>
"""
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
}


def digest_field(sha256: str) -> str:
    """The value of the header Repr-Digest (RFC 9530).

    >>> digest_field("00" * 32)
    'sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:'
    """
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def document(spec: dict[str, Any], token: bool, limits: Limits) -> dict[str, Any]:
    """BentoML's OpenAPI document with what it cannot know.

    Args:
        spec: as BentoML makes it.
        token: whether requests must carry one.
        limits: of a file.
    """
    post = {**spec["paths"][PATH]["post"]}
    post["summary"] = "Segment a volume"
    post["description"] = (
        f"{DESCRIPTION}\nA file has at most {limits.max_bytes} bytes and {limits.max_voxels} "
        "voxels."
    )
    post["x-codeSamples"] = [{"lang": "Shell", "source": EXAMPLE}]
    post["responses"] = {"200": _file_response(), **_problem_responses()}
    made = {
        **spec,
        "info": {
            "title": "MiniVess segmentation service",
            "description": "Vessel masks of 3D volumes by an exported champion.",
            "version": __version__,
        },
        # BentoML's own pages of its other addresses are left out: health is all that is there.
        "paths": {
            PATH: {"post": post},
            **{path: spec["paths"][path] for path in ("/livez", "/readyz")},
            "/metrics": {"get": {"responses": {"200": {"description": "Prometheus metrics"}}}},
        },
    }
    if token:
        scheme = {"token": {"type": "http", "scheme": "bearer"}}
        made["components"] = {**spec["components"], "securitySchemes": scheme}
        post["security"] = [{"token": []}]
    return made


def _file_response() -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": "What was asked for: " + ", ".join(ANSWERS),
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "SHA-256 of the file"},
            "Repr-Digest": {"schema": {"type": "string"}, "description": "the same, RFC 9530"},
            "X-Minivess-Champion": {
                "schema": {"type": "string"},
                "description": "digest of the exported champion",
            },
        },
        "content": {
            "application/gzip": binary,
            "application/zip": binary,
            "application/json": {"schema": {"type": "object"}},
        },
    }


def _problem_responses() -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for code, status in HTTP_STATUS.items():
        codes.setdefault(status, []).append(code)
    example = MinivessError(
        "MV-UPLOAD-008",
        what="the spacing is missing or implausible",
        where="stack.tif",
        found="no spacing in the file",
        fix="send spacing_um as x,y,z in micrometres",
    )
    return {
        str(status): {
            "description": "; ".join(f"{code}: {CODES[code]}" for code in sorted(names)),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"type": "object"},
                    **({"example": content(example, 422)} if status == 422 else {}),
                }
            },
        }
        for status, names in sorted(codes.items())
    }
