from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lrs_trio

ROOT = Path(__file__).parent.parent


def project_files() -> list[Path]:
    """What is in git, or would be: everything that is not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_in_the_network() -> None:
    place = re.compile(rb"https?" + rb"://|\bpypi\b|pythonhosted|\bgithub\b|--(extra-)?index-url", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}: {match.group().decode()}"
        for file in project_files()
        if file not in (ROOT / "LICENSE", Path(__file__))
        for match in place.finditer(file.read_bytes())
    ]
    assert found == []


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## [{lrs_trio.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_requirement_is_pinned_with_its_hashes() -> None:
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    pinned = {}
    for entry in entries:
        name, version = re.match(r"([a-z0-9.-]+)==([^ ;\\]+)", entry).groups()  # type: ignore[union-attr]
        assert "--hash=sha256:" in entry, f"{name} has no hash"
        pinned[name] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    assert {re.split(r"[<>=~[]", requirement)[0] for requirement in asked} <= set(pinned)


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("@pytest.mark.note('2.4', '11')\ndef test_it(): ...", 1, "items without a test: 0, 1, 2.1, 2.2, 2.3, 2.5a"),
        ("@pytest.mark.note('2.9')\ndef test_it(): ...", 1, "test_it names item '2.9'"),
        ("@pytest.mark.note()\ndef test_it(): ...", 1, "test_it names item ''"),
        ("import nothing_of_that_name", 1, "the tests could not be collected"),
    ],
)
def test_notes_without_tests_and_tests_without_notes_are_told(
    tmp_path: Path, source: str, status: int, said: str
) -> None:
    result = note_coverage(tmp_path, source)
    assert result.returncode == status
    assert said in result.stderr


def test_notes_are_listed_with_their_tests(tmp_path: Path) -> None:
    from tests.note_coverage import ITEMS

    source = (
        f"pytestmark = pytest.mark.note(*{list(ITEMS)})\n"
        "@pytest.mark.parametrize('x', ['a]b', '[', '\\n'])\ndef test_cases(x): ...\n"
        "class TestMore:\n    def test_one(self): ..."
    )
    result = note_coverage(tmp_path, source)
    assert result.returncode == 0, result.stderr
    blocks = re.split(r"^(?=\S)", result.stdout, flags=re.MULTILINE)[1:]
    assert [block.split()[0] for block in blocks] == list(ITEMS)
    for block in blocks:
        first, second = (line.strip() for line in block.splitlines()[1:])
        assert first.endswith("test_x.py::test_cases (3 cases)")
        assert second.endswith("test_x.py::TestMore::test_one")


def note_coverage(directory: Path, source: str) -> subprocess.CompletedProcess[str]:
    test = directory / "test_x.py"
    test.write_text("import pytest\n" + source + "\n")
    return subprocess.run(
        [sys.executable, "-m", "tests.note_coverage", str(test)], cwd=ROOT, check=False, capture_output=True, text=True
    )
