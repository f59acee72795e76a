"""Importing the parts of MONAI that are used, without the rest and the packages that it likes.

`import monai` executes all its modules, each of them twice, and each imports the optional packages
that it finds. Here that costs seconds in every process, for parts of MONAI that nothing here uses.
So while it is imported its list of modules is empty, and the packages below are hidden from it;
afterwards they can be imported as ever.
"""

from __future__ import annotations

import pkgutil
import sys
from unittest.mock import patch

HIDDEN = (
    "IPython",
    "PIL",
    "huggingface_hub",
    "ignite",
    "jsonschema",
    "matplotlib",
    "mlflow",
    "nibabel",
    "optuna",
    "pandas",
    "requests",
    "scipy.signal",
    "skimage",
    "sklearn",
    "tifffile",
    "transformers",
)


def import_monai() -> None:
    """Import MONAI's losses and networks once, with `HIDDEN` out of its sight.

    What is imported already stays.
    """
    if "monai" in sys.modules:
        return
    hidden = [name for name in HIDDEN if name not in sys.modules]
    # None in sys.modules makes an import fail as if the package were not installed.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        with patch.object(pkgutil, "walk_packages", return_value=iter(())):
            import monai
        # In this order: they import each other.
        import monai.apps
        import monai.losses
        import monai.networks.nets  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
