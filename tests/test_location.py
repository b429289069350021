from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lrs_trio import location
from lrs_trio.errors import SettingsError
from lrs_trio.location import config_file, socket_path


@pytest.fixture
def no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(location, "DEFAULT_CONFIG", tmp_path / "absent.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lrs.toml"
    path.write_text('[server]\nsocket = "/from/file"\n')
    return path


@pytest.mark.usefixtures("no_default_file")
def test_without_any_setting_the_built_in_default() -> None:
    assert config_file(None, {}) is None
    assert socket_path(None, {}) == Path("/run/lrs-trio/lrs")


def test_the_default_file_is_read_if_it_exists(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(location, "DEFAULT_CONFIG", file)
    assert socket_path(None, {}) == Path("/from/file")


def test_the_environment_names_the_file_and_the_command_line_wins(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[server]\nsocket = "/from/other"\n')
    assert socket_path(None, {"LRS_CONFIG": str(other)}) == Path("/from/other")
    assert socket_path(file, {"LRS_CONFIG": str(other)}) == Path("/from/file")


@pytest.mark.parametrize("variable", ["LRS_SERVER__SOCKET", "lrs_server__socket"])
def test_the_environment_wins_over_the_file(file: Path, variable: str) -> None:
    assert socket_path(file, {variable: "/from/environment"}) == Path("/from/environment")


@pytest.mark.usefixtures("no_default_file")
@pytest.mark.parametrize("content", ["", "server = 5\n", "[server]\nsocket_mode = '0600'\n", "[drain]\nnonsense = 1\n"])
def test_other_settings_do_not_matter(tmp_path: Path, content: str) -> None:
    file = tmp_path / "lrs.toml"
    file.write_text(content)
    assert socket_path(file, {"LRS_NONSENSE": "1"}) == Path("/run/lrs-trio/lrs")


@pytest.mark.parametrize("value", ['"relative"', "5", '"/' + 107 * "x" + '"', '""'])
def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "lrs.toml"
    file.write_text(f"[server]\nsocket = {value}\n")
    with pytest.raises(SettingsError) as caught:
        socket_path(file, {})
    assert str(caught.value).startswith(f"{file}: server.socket = ")
    assert str(caught.value).endswith(": must be an absolute path of at most 107 bytes")


def test_bytes_count_not_characters(tmp_path: Path) -> None:
    longest = "/" + 53 * "é"
    assert socket_path(None, {"LRS_SERVER__SOCKET": longest}) == Path(longest)
    with pytest.raises(SettingsError, match="at most 107 bytes"):
        socket_path(None, {"LRS_SERVER__SOCKET": longest + "x"})


def test_an_absent_file_and_one_that_is_not_toml_are_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    with pytest.raises(SettingsError) as caught:
        socket_path(absent, {})
    assert str(caught.value) == f"{absent}: cannot be read: No such file or directory"
    broken = tmp_path / "broken.toml"
    for content in (b"[server\n", b"# \xff\n"):
        broken.write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            socket_path(broken, {})
        assert str(caught.value).startswith(f"{broken}: is not TOML: ")


def test_finding_the_socket_costs_no_heavy_import() -> None:
    heavy = {"trio", "pydantic", "apsw", "structlog", "google.protobuf"}
    code = "import sys, lrs_trio.location; print(*sys.modules, sep='\\n')"
    source = Path(location.__file__).parent.parent
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "lrs_trio.location" in loaded
    assert heavy.isdisjoint(loaded)
