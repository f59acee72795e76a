"""Networks, by architecture name. A new one is one file and one line in `ADAPTERS`."""

from __future__ import annotations

from minivess.config.models import ModelConfig
from minivess.errors import MinivessError, nearest
from minivess.models.adapter import ModelAdapter
from minivess.models.attention_unet import AttentionUnetAdapter
from minivess.models.dynunet import DynUNetAdapter
from minivess.models.sam import SamAdapter
from minivess.models.segresnet import SegResNetAdapter
from minivess.models.vesselfm import VesselFMAdapter
from minivess.models.vista3d import Vista3DAdapter
from minivess.types import Spacing

ADAPTERS: dict[str, type[ModelAdapter]] = {
    "dynunet": DynUNetAdapter,
    "segresnet": SegResNetAdapter,
    "attention_unet": AttentionUnetAdapter,
    "vesselfm": VesselFMAdapter,
    "vista3d": Vista3DAdapter,
    "sam": SamAdapter,
}


def build_adapter(config: ModelConfig, spacing_um: Spacing) -> ModelAdapter:
    """The adapter of an architecture.

    Raises:
        MinivessError: MV-CONFIG-003 unknown architecture.

    >>> build_adapter(ModelConfig(filters=(8, 16, 32)), (1.0, 1.0, 5.0)).patch_divisor()
    (4, 4, 1)
    """
    if config.architecture not in ADAPTERS:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no architecture {config.architecture}",
            where="config models",
            fix=nearest(config.architecture, ADAPTERS),
        )
    return ADAPTERS[config.architecture](config, spacing_um)
