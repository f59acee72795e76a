"""Keys that make each network as small as it can be; their weights are random."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "dynunet": {"filters": (4, 8, 8)},
    "segresnet": {"init_filters": 4, "blocks_down": (1, 1, 1)},
    "attention_unet": {"filters": (4, 8, 8)},
    "vesselfm": {},
    "vista3d": {"embed_dim": 24},
    "sam": {"encoder": "tiny_random"},
}
# Those that start from published weights, and have millions of them.
PUBLISHED = ("vesselfm", "vista3d", "sam")
TRAINED_HERE = sorted(set(SMALL) - set(PUBLISHED))
