"""`python -m minivess` is the command `minivess`."""

from __future__ import annotations

from minivess.cli import main

main()
