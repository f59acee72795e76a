"""Importing MONAI without every optional package it would like to have a look at.

`import monai` executes all its modules, and each of them imports the optional packages it finds.
Here that costs about 5 s in every process, for parts of MONAI that nothing here uses. While it is
imported the packages below are hidden from it; afterwards they can be imported as ever.
"""

from __future__ import annotations

import sys

HIDDEN = ("IPython", "jsonschema", "matplotlib", "mlflow", "pandas", "sklearn", "transformers")


def import_monai() -> None:
    """Import MONAI once, with `HIDDEN` out of its sight; what is imported already stays."""
    if "monai" in sys.modules:
        return
    hidden = [name for name in HIDDEN if name not in sys.modules]
    # None in sys.modules makes an import fail as if the package were not installed.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import monai  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
