"""MiniVess: reproducible 3D vessel segmentation, from raw volumes to a finished paper."""

from __future__ import annotations

__version__ = "0.1.0"
