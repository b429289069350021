"""What a Phobos 3.3 configuration says of a key: the environment first, then the file.

A client command only needs the socket, and the configure request looks up one key at a time: nothing heavier
than the INI parser is imported here, and nothing is interpreted.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lrs_trio.errors import SettingsError
from lrs_trio.location import checked_socket
from lrs_trio.phobos.values import in_variable

DEFAULT_FILE = Path("/etc/phobos.conf")
"""The configuration when neither the command line nor PHOBOS_CFG_FILE names one; it need not exist."""

DEFAULT_SOCKET: Final = "/run/phobosd/lrs"

_FILE_VARIABLE: Final = "PHOBOS_CFG_FILE"
_PREFIX: Final = "PHOBOS_"


def variable(section: str, key: str) -> str:
    """The environment variable that sets `key` of `section`: PHOBOS_TLC_LEGACY_port for port of tlc "legacy"."""
    return f"{_PREFIX}{in_variable(section)}_{key.lower()}"


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A key that has a value, as it is written: in a section of the file, or as an environment variable."""

    variable: str
    section: str | None
    """``None``: it is the environment that gives it."""
    key: str


class PhobosConfiguration:
    """The values by section and key. As in Phobos, the case of neither matters in the file."""

    def __init__(self, file: Path | None, content: Mapping[str, Mapping[str, str]], environ: Mapping[str, str]) -> None:
        """Use `content` as what is in `file`.

        Args:
            file: for messages; ``None`` if there is none.
            content: the values of the file, by section and key.
            environ: the environment.

        Raises:
            SettingsError: keys differ in nothing but case, or in the case of their sections.
        """
        self.file = file
        self._values: dict[tuple[str, str], str] = {}
        self._written: list[tuple[str, str]] = []
        self._variables = {
            name: value for name, value in environ.items() if name.startswith(_PREFIX) and name != _FILE_VARIABLE
        }
        for heading, values in content.items():
            section = heading.strip()
            for key, value in values.items():
                place = _place(section, key)
                if place in self._values:
                    raise SettingsError(f"{file}: [{section}] {key}: is given twice; upper and lower case are the same")
                self._values[place] = value
                self._written.append((section, key))

    @classmethod
    def load(cls, path: Path | None, environ: Mapping[str, str]) -> PhobosConfiguration:
        """The configuration in `path`, else in what PHOBOS_CFG_FILE names, else in the default file if it exists.

        Raises:
            SettingsError: it cannot be read or is no INI file: the file, the line, and what is wrong there.
        """
        named = path or (Path(environ[_FILE_VARIABLE]) if environ.get(_FILE_VARIABLE) else None)
        file = named or DEFAULT_FILE
        try:
            content = _read_ini(file)
        except FileNotFoundError as error:
            if named is None:
                return cls(None, {}, environ)
            raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
        except OSError as error:
            raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
        return cls(file, content, environ)

    def get(self, section: str, key: str) -> str | None:
        """The value, ``None`` where there is none; the built-in default of a key is not looked at."""
        value = self._variables.get(variable(section, key))
        return self._values.get(_place(section, key)) if value is None else value

    def set(self, section: str, key: str, value: str) -> None:
        """Have `value` win over environment and file from now on: it takes the place of the variable of that name."""
        self._variables[variable(section, key)] = value

    def given(self) -> Iterator[GivenKey]:
        """Every key that has a value, once: those of the environment, then those that only the file has."""
        for name in sorted(self._variables):
            yield GivenKey(name, None, name)
        for section, key in self._written:
            if (name := variable(section, key)) not in self._variables:
                yield GivenKey(name, section, key)

    def sections(self, kind: str) -> Iterator[str]:
        """The names of the sections of a `kind` in the file, as they are written there: legacy for [tlc "legacy"]."""
        pattern = re.compile(rf'{kind} "(.+)"', re.IGNORECASE)
        found = (pattern.fullmatch(section) for section, _ in self._written)
        return iter(dict.fromkeys(match[1] for match in found if match is not None))

    def label(self, section: str, key: str) -> str:
        """What the key is called where its value is from: ``[lrs] policy`` or ``PHOBOS_LRS_policy``."""
        name = variable(section, key)
        return name if name in self._variables else f"[{section}] {key}"

    def told(self, section: str, key: str) -> str:
        """How a message about the value of the key begins: where it is from, the key, the value."""
        return f"{self.place(section, key)} = {self.get(section, key)!r}"

    def place(self, section: str, key: str) -> str:
        """Where the value of the key is from, and the key."""
        name = variable(section, key)
        return f"{name if name in self._variables else self.file}: [{section}] {key}"

    @property
    def socket_path(self) -> Path:
        """Where the daemon listens.

        Raises:
            SettingsError: no socket can be there.
        """
        place = ("lrs", "server_socket")
        text = self.get(*place)
        try:
            return checked_socket(DEFAULT_SOCKET if text is None else text)
        except ValueError as error:
            raise SettingsError(f"{self.told(*place)}: must be {error}") from error


class _Parser(configparser.RawConfigParser):
    """Reads a file as Phobos does: only ``=`` separates, nothing is interpolated, no section is special."""

    def __init__(self) -> None:
        super().__init__(
            delimiters=("=",),
            comment_prefixes=("#", ";", "//"),
            default_section="\n",  # no section can bear that name
            empty_lines_in_values=False,
        )

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _place(section: str, key: str) -> tuple[str, str]:
    return section.lower(), key.lower()


def _read_ini(file: Path) -> dict[str, dict[str, str]]:
    """The values in `file` by section and key; a value of several lines is one line.

    Raises:
        OSError: it cannot be read.
        SettingsError: it is no INI file.
    """
    parser = _Parser()
    # Bytes that are not UTF-8 are those of a path, or of a comment in an old file: they stay what they are.
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        try:
            parser.read_file(stream)
        except configparser.Error as error:
            raise SettingsError("\n".join(f"{file}, line {line}: {what}" for line, what in _wrong(error))) from error
    return {
        section: {key: value.replace("\n", " ") for key, value in parser.items(section)}
        for section in parser.sections()
    }


def _wrong(error: configparser.Error) -> Iterator[tuple[int | None, str]]:
    """The lines that `error` is about, and what is wrong there; not what they say, it may be a password."""
    match error:
        case configparser.DuplicateSectionError():
            yield error.lineno, f"section [{error.section}] is given twice"
        case configparser.DuplicateOptionError():
            yield error.lineno, f"[{error.section}] {error.option} is given twice"
        case configparser.MissingSectionHeaderError():
            yield error.lineno, "comes before the first [SECTION]"
        case configparser.ParsingError():
            for line, _ in error.errors:
                yield line, "is neither [SECTION] nor KEY = VALUE"
