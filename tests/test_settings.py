from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from lrs_trio.model import Family, Phase, SyncThresholds
from lrs_trio.settings import (
    DirectorySettings,
    DssSettings,
    FamiliesSettings,
    ServerSettings,
    Settings,
    SyncSettings,
    TapeSettings,
    TimeoutSettings,
)


def test_the_sync_thresholds_are_seconds_and_bytes() -> None:
    sync = SyncSettings(time_ms=1500, requests=3, bytes=4096)
    assert sync.thresholds == SyncThresholds(age=1.5, requests=3, size=4096)


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("666", 0o666), ("0000", 0)])
def test_the_socket_mode_is_octal(text: str, mode: int) -> None:
    assert ServerSettings(socket_mode=text).mode == mode


@pytest.mark.parametrize("url", ["sqlite:///var/dss", "sqlite:////var/dss"])
def test_the_dss_url_names_a_file(url: str) -> None:
    dss = DssSettings(url=url)
    assert dss.path == Path("/var/dss")
    assert not dss.is_postgres
    assert dss.shown == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://phobos:secret@db1/phobos", "postgresql://phobos@db1/phobos"),
        ("postgres://phobos@db1:5433,db2/phobos", "postgres://phobos@db1:5433,db2/phobos"),
        ("postgresql://:secret@db1", "postgresql://@db1"),
        ("postgresql://phobos:se/cr@t@db1/phobos", "postgresql://phobos@db1/phobos"),
        ("postgresql:///phobos?host=/run/postgresql", "postgresql:///phobos?host=/run/postgresql"),
        ("postgresql://db1/phobos?password=secret", "postgresql://db1/phobos"),
        ("postgresql://db1?sslkey=k&sslpassword=secret&user=u", "postgresql://db1?sslkey=k&user=u"),
        ("postgresql://", "postgresql://"),
    ],
)
def test_the_dss_url_names_a_database_and_is_shown_without_a_password(url: str, shown: str) -> None:
    dss = DssSettings(url=url)
    assert dss.is_postgres
    assert dss.shown == shown


def test_directories_are_served_and_tapes_where_somebody_says_so() -> None:
    families = FamiliesSettings(dir=DirectorySettings(max_concurrent_io=2))
    assert families.served == {Family.DIR: families.dir}
    families = FamiliesSettings(dir=DirectorySettings(enabled=False), tape=TapeSettings(enabled=True))
    assert families.served == {Family.TAPE: families.tape}


def test_every_operation_has_a_limit() -> None:
    assert {DirectorySettings(operation_timeout_s=7).limit(phase) for phase in Phase} == {7}


def test_every_operation_on_tape_has_a_limit_of_its_own() -> None:
    timeouts = TimeoutSettings(look_up_s=1, load_s=2, unload_s=3, mount_s=4, unmount_s=5, format_s=6, sync_s=7)
    limits = {phase: TapeSettings(timeouts=timeouts).limit(phase) for phase in Phase}
    assert limits.pop(Phase.OPEN) == 1
    assert {f"{phase.name.lower()}_s": limit for phase, limit in limits.items()} == timeouts.model_dump()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().drain.deadline_s = 1.0
