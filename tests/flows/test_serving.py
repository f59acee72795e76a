"""Starting and ending what serves a champion."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from running_service import free_port
from small_bundle import make_bundle

from minivess import output, paths
from minivess.config.settings import load_settings
from minivess.errors import MinivessError
from minivess.flows import serving, snakemake
from minivess.flows.serving import Program
from minivess.steps.segment import bundle_folder

SERVER = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1")


def server(folder: Path, *command: str) -> Program:
    """A server that only a shell with it in its process group keeps alive."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    line = " ".join((*(command or SERVER), str(port)))
    shell = ("sh", "-c", f"{line} --directory {folder} 2>/dev/null & wait")
    return Program("server", shell, url, url)


def test_all_programs_end_when_one_does_and_none_is_left(tmp_path: Path) -> None:
    first = server(tmp_path)
    brief = Program("page", ("sleep", "1"), first.url, first.ready)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(MinivessError, match="MV-SERVICE-009") as caught:
        serving.serve([first, brief], grace_s=5)
    assert "page ended by itself" in caught.value.what
    time.sleep(0.2)
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]


def test_an_interrupt_ends_all_programs(tmp_path: Path) -> None:
    program = server(tmp_path)

    def interrupt() -> None:
        while True:
            with suppress(OSError), urllib.request.urlopen(program.url, timeout=5):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.1)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        serving.serve([program], grace_s=5)
    with pytest.raises(OSError, match=r"refused|reset"):
        urllib.request.urlopen(program.url, timeout=5)


def test_a_second_interrupt_leaves_none_of_them(tmp_path: Path) -> None:
    program = server(tmp_path)
    slow = "trap 'sleep 1; exit' TERM; while :; do sleep 0.1; done"
    first = Program("page", ("sh", "-c", slow), program.url, program.ready)

    def interrupt() -> None:
        while True:
            with suppress(OSError), urllib.request.urlopen(program.url, timeout=5):
                break
            time.sleep(0.1)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.4)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        serving.serve([first, program], grace_s=5)
    with pytest.raises(OSError, match=r"refused|reset"):
        urllib.request.urlopen(program.url, timeout=5)


def test_one_that_does_not_start_is_named(tmp_path: Path) -> None:
    program = server(tmp_path, "false")
    with pytest.raises(MinivessError, match="MV-SERVICE-009") as caught:
        serving.serve([program], grace_s=5)
    assert "not ready" in caught.value.what
    assert "exit status" in caught.value.found


def test_a_champion_that_is_not_exported_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = paths.bundle(paths.experiment_folder("demo"), "topology")
    asked: list[object] = []

    def run(request: object) -> int:
        asked.append(request)
        make_bundle(folder)
        return 0

    monkeypatch.setattr(snakemake, "request", lambda *arguments: arguments)
    monkeypatch.setattr(snakemake, "run", run)
    assert serving.exported("demo", "topology", "2") == folder
    assert asked == [("demo", ["deploy"], "2", False)]
    assert serving.exported("demo", "topology", "2") == folder
    assert len(asked) == 1, "what is there is not made again"


def test_a_champion_of_earlier_results_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = paths.experiment_folder("demo")
    folder = paths.bundle(root, "overlap")
    make_bundle(folder)
    champion = {"champions": {"overlap": {"weights_sha256": "0" * 64}}}
    output.write_json(champion, paths.champions(root))
    monkeypatch.setattr(snakemake, "request", lambda *arguments: arguments)
    monkeypatch.setattr(snakemake, "run", lambda _: pytest.fail("it is the champion"))
    assert serving.exported("demo", "overlap", "2") == bundle_folder("demo", "overlap") == folder
    champion["champions"]["overlap"]["weights_sha256"] = "1" * 64
    output.write_json(champion, paths.champions(root))
    with pytest.raises(MinivessError, match="not of the network that is the champion now"):
        bundle_folder("demo", "overlap")

    def run(request: object) -> int:
        make_bundle(folder, weights_sha256="1" * 64)
        return 0

    monkeypatch.setattr(snakemake, "run", run)
    assert serving.exported("demo", "overlap", "2") == bundle_folder("demo", "overlap") == folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_where_the_terminal_is_closed(tmp_path: Path, number: int) -> None:
    """By the signals as the command answers them."""
    program = server(tmp_path)
    code = (
        "import minivess.cli as cli, sys\n"
        "from minivess.flows import serving\n"
        f"program = serving.Program({program.name!r}, {program.command!r}, {program.url!r}, "
        f"{program.ready!r})\n"
        "cli.app = lambda prog_name: serving.serve([program], grace_s=5)\n"
        "cli.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while True:
        with suppress(OSError), urllib.request.urlopen(program.url, timeout=5):
            break
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    with pytest.raises(OSError, match=r"refused|reset"):
        urllib.request.urlopen(program.url, timeout=5)


def test_a_champion_is_exported_as_its_results_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the data and overrides of `just experiment`, not with what the name alone stands for."""
    monkeypatch.chdir(tmp_path)
    root = paths.experiment_folder("mine")
    file = paths.step_config(root, "experiment")
    file.parent.mkdir(parents=True)
    file.write_text("name: mine\n", encoding="utf-8")
    asked: list[tuple[object, ...]] = []

    def run(request: tuple[object, ...]) -> int:
        asked.append(request)
        make_bundle(paths.bundle(root, "overlap"))
        return 0

    monkeypatch.setattr(snakemake, "request", lambda *arguments: arguments)
    monkeypatch.setattr(snakemake, "run", run)
    serving.exported("mine", "overlap", "2")
    assert asked == [(str(file), ["deploy"], "2", False)]


def test_a_misspelt_champion_exports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(snakemake, "request", lambda *_: pytest.fail("Snakemake was asked"))
    with pytest.raises(MinivessError) as caught:
        serving.exported("demo", "topolgy", "2")
    assert caught.value.code == "MV-CONFIG-003"
    assert "topology" in caught.value.fix


def test_a_port_that_another_server_answers_on_is_refused(tmp_path: Path) -> None:
    program = server(tmp_path)
    address = ("127.0.0.1", urlsplit(program.url).port)
    with socket.create_server(address), pytest.raises(MinivessError) as caught:
        serving.serve([program], grace_s=5)
    assert caught.value.code == "MV-SERVICE-009"
    assert caught.value.found == "another program answers there already"


def test_an_export_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(snakemake, "request", lambda *arguments: arguments)
    monkeypatch.setattr(snakemake, "run", lambda request: 3)
    with pytest.raises(MinivessError, match="exit status 3"):
        serving.exported("demo", "overlap", "2")


def test_others_are_served_with_a_token_only() -> None:
    settings = replace(load_settings("server"), token="")
    with pytest.raises(MinivessError, match="MV-SERVICE-001"):
        serving.service(Path("bundle"), settings)
    program = serving.service(Path("bundle"), replace(settings, token="secret"))
    assert "secret" not in " ".join(program.command), "other users see command lines"
    assert program.url == "http://127.0.0.1:3000"
    page = serving.page("demo", "overlap", settings)
    assert page.command[-5:-1] == ("--experiment", "demo", "--kind", "overlap")
