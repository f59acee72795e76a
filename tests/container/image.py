"""What an image must not have: root, compilers, files that anyone may write, a slow start."""

from __future__ import annotations

import time

from container.engine import Engine

TOOLS = ("gcc", "cc", "g++", "make", "ld", "git", "uv", "uvx")
PROJECT = "/opt/minivess"
QUICK_S = 5.0
# Path of what group or others may write, links and folders such as /tmp apart.
WRITABLE = "find / -xdev -perm /022 ! -type l ! -type c ! ( -type d -perm -1000 ) -print"


def problems(engine: Engine, image: str, base: str) -> list[str]:
    """Everything that is wrong with an image, in sentences.

    Args:
        engine: what runs it.
        image: its name.
        base: name of the image that it begins with, whose files are not its fault.
    """

    def output(*command: str, name: str = image) -> str:
        return engine.run(name, command, "--network", "none", "--user", "0:0")

    user = engine.run(image, ["id", "-u"], "--network", "none")
    found = ["its processes are root's"] if user == "0" else []
    begin = time.monotonic()
    engine.run(image, ["minivess", "--help"], "--network", "none", "--read-only")
    seconds = time.monotonic() - begin
    print(f"image: user {user}, minivess --help in {seconds:.1f} s", flush=True)
    if seconds > QUICK_S:
        found.append(f"minivess --help takes {seconds:.1f} s")
    there = output("sh", "-c", f"for t in {' '.join(TOOLS)}; do command -v $t; done; true")
    found += [f"it has {path}" for path in there.splitlines()]
    words = WRITABLE.split()
    found += [
        f"more than its owner may write {path}"
        for path in added(output(*words), output(*words, name=base))
    ]
    owned = output("find", PROJECT, "!", "-user", "root", "-print")
    found += [f"not root's: {path}" for path in owned.splitlines()]
    hidden = output("find", PROJECT, "!", "-perm", "-a+r", "-print")
    return found + [f"not everyone may read {path}" for path in hidden.splitlines()]


def added(own: str, base: str) -> list[str]:
    """Lines of the first text that the second one has not.

    >>> added("/a\\n/b", "/a")
    ['/b']
    """
    return sorted(set(own.splitlines()) - set(base.splitlines()))
