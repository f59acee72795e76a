"""Record the digests of the demo and the tiny experiment anew, after a change meant to change them.

Those of other kinds of machines go: they are no longer true. Each machine records its own again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from workbench import PROJECT, Workbench

from minivess import paths
from minivess.environment import prepare_environment
from minivess.reproducibility.golden import GOLDEN, forget_golden, machine_kind, record_golden


def main() -> int:
    """Run both experiments to their digests and write these."""
    prepare_environment()
    demo = subprocess.run([sys.executable, "-m", "minivess", "experiment", "demo"], check=False)
    if demo.returncode != 0:
        return demo.returncode
    with tempfile.TemporaryDirectory(prefix="minivess-golden-") as folder:
        tiny = Workbench(Path(folder))
        tiny.write_config()
        tiny.complete("digests")
        for root in (paths.experiment_folder("demo"), tiny.root):
            committed = PROJECT / GOLDEN / root.name
            forget_golden(committed)
            print(record_golden(root, committed, machine_kind()).relative_to(PROJECT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
