"""What stores, pages and notebooks tell of the machine: not its name, nor who works at it."""

import getpass
import platform
import socket

import pytest

from pipeline.runtime.machine import machine


def test_the_record_holds_neither_the_name_of_the_machine_nor_of_its_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {platform: "node", socket: "gethostname", getpass: "getuser"}
    for module, name in names.items():
        monkeypatch.setattr(module, name, lambda: "a-name-of-its-own")
    monkeypatch.setenv("USER", "a-name-of-its-own")
    node = platform.uname()._replace(node="a-name-of-its-own")
    monkeypatch.setattr(platform, "uname", lambda: node)
    told = machine()
    assert set(told) == {"processor", "threads", "memory", "system"}
    assert "a-name-of-its-own" not in str(told)
    assert told["system"] == f"{platform.system()} {platform.release()}"
