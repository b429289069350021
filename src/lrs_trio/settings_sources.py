"""Where settings come from, what is wrong with them, and how they are written down again.

Defaults are overridden by the settings file, that by the environment, that by the command line.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lrs_trio.errors import SettingsError
from lrs_trio.location import config_file, read_toml, settings_in
from lrs_trio.settings import FamilySettings, Settings, Table

Key = tuple[str, ...]
"""The name of a setting, from the outermost table in."""

F = TypeVar("F", bound=FamilySettings)

# Enough of a value to recognise it, and an error message stays one line that can be read.
_in_short = reprlib.Repr()
_in_short.maxstring = _in_short.maxother = 120


def load_settings(path: Path | None, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> Settings:
    """The settings in effect.

    Args:
        path: the settings file given on the command line; without one, LRS_CONFIG's or the default one if it exists.
        environ: the environment; LRS_DRAIN__DEADLINE_S=60 sets drain.deadline_s.
        overrides: KEY=VALUE texts of the command line, such as drain.deadline_s=60.

    Raises:
        SettingsError: one line for each thing that is wrong: where, the key, the value and what is allowed.
    """
    problems: list[str] = []
    file = config_file(path, environ)
    values: dict[str, object] = {}
    if file is not None:
        try:
            values = read_toml(file)
        except SettingsError as error:
            problems.append(str(error))
    variables = [(name, _spelled(key, values), text) for name, key, text in settings_in(environ)]
    given = [*variables, *_command_line(overrides, problems)]
    return _checked(values, given, problems, lambda key: f"{file}: {_problem(key, _given(values, key))}")


def settings_from(
    values: Mapping[Key, object], said: Mapping[Key, str], overrides: Sequence[str], problems: Sequence[str]
) -> Settings:
    """The settings that something else than our own files and variables says.

    Args:
        values: what it says, by key, such as ("drain", "deadline_s").
        said: for keys that can be wrong there, how an error names place, key and value; what is allowed is added.
        overrides: as for `load_settings`.
        problems: lines of the error that is due already.

    Raises:
        SettingsError: one line for each thing that is wrong.
    """
    nested: dict[str, object] = {}
    for key, value in values.items():
        _override(nested, key, value)
    found = [*problems]
    given = list(_command_line(overrides, found))
    return _checked(nested, given, found, lambda key: f"{said[key]}: must be {_ALLOWED[_rule(key)]}")


def changed(settings: F, key: Key, value: object) -> F:
    """The settings of a family with another value of `key`, such as ("ltfs", "mount").

    Raises:
        ValueError: it cannot have that value; the text says what is allowed.
    """
    values: dict[str, Any] = settings.model_dump()
    _override(values, key, value)
    try:
        return type(settings).model_validate(values)
    except ValidationError:
        allowed = dict(_allowed(type(settings)))
        raise ValueError(f"must be {allowed[_rule(key, allowed)]}") from None


def to_toml(settings: Settings, *, changes_only: bool = False) -> str:
    """`settings` as a settings file that says the same; with `changes_only` what is the default is left out."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True, exclude_defaults=changes_only))


def _command_line(overrides: Sequence[str], problems: list[str]) -> Iterator[tuple[str, Key, str]]:
    """Each of the KEY=VALUE texts, as `settings_in` gives what the environment sets; what is none is a problem."""
    for override in overrides:
        name, equals, text = override.partition("=")
        if equals:
            yield "command line", tuple(name.strip().split(".")), text
        else:
            shown = "what was given" if _may_be_secret((), override) else repr(override)
            problems.append(f"command line: {shown}: must be KEY=VALUE, such as drain.deadline_s=60")


def _checked(
    values: dict[str, object],
    given: Sequence[tuple[str, Key, str]],
    problems: list[str],
    otherwise: Callable[[Key], str],
) -> Settings:
    """The settings that `values`, and what is `given` by (source, key, text) and wins, make.

    Args:
        problems: what is known to be wrong.
        otherwise: says what is wrong with a value that is not `given`.

    Raises:
        SettingsError: one line for each thing that is wrong.
    """
    sources: dict[Key, str] = {}
    for source, key, text in given:
        if _is_known(key):
            _override(values, key, text)
            sources[key] = source
        else:
            problems.append(f"{source}: {_problem(key, text)}")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as invalid:
        for key in dict.fromkeys(map(_wrong_key, invalid.errors(include_url=False))):
            giver = _source(key, values, sources)
            problem = otherwise(key) if giver is None else f"{giver}: {_problem(key, _given(values, key))}"
            if problem not in problems:
                problems.append(problem)
    else:
        if not problems:
            return settings
    raise SettingsError("\n".join(problems))


def _wrong_key(error: ErrorDetails) -> Key:
    """The key whose value pydantic finds wrong; what is in a list has none of its own."""
    key = tuple(map(str, error["loc"]))
    return key if error["type"] == "extra_forbidden" else key[: len(_rule(key))]


def _source(key: Key, values: dict[str, object], sources: Mapping[Key, str]) -> str | None:
    """Where the value of `key` is from; what lacks one is blamed on whoever has given something beside it."""
    if key in sources or _given(values, key) is not None:
        return sources.get(key)
    return next((source for given, source in sources.items() if given[:-1] == key[:-1]), None)


def _override(values: dict[str, object], key: Key, value: object) -> None:
    """Set `key` in the nested `values`, unless the file has something else where a table belongs: that is an error."""
    table = values
    for name in key[:-1]:
        below = table.setdefault(name, {})
        if not isinstance(below, dict):
            return
        table = below
    table[key[-1]] = value


def _given(values: dict[str, object], key: Key) -> object:
    """What `values` has for `key`, as it was written; ``None`` for nothing."""
    value: object = values
    for name in key:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _problem(key: Key, value: object) -> str:
    """What is wrong with `value` as the value of `key`, and what is allowed instead."""
    allowed = _ALLOWED[_rule(key)]
    what = _dotted(key) if _may_be_secret(key, value) else f"{_dotted(key)} = {_in_short.repr(value)}"
    if not _is_known(key):
        parent = key[: len(_rule(key))]
        return f"{what}: unknown key; {_dotted(parent) or 'the settings'} must be {allowed}"
    return f"{_dotted(key)} is missing: must be {allowed}" if value is None else f"{what}: must be {allowed}"


def _may_be_secret(key: Key, value: object) -> bool:
    """Whether a wrong `value` may have the password of a database in it: messages end in the journal and in tickets."""
    text = str(value)
    if key[:1] == ("dss",):
        return key != ("dss", "recheck_s") and not text.startswith("sqlite:")
    return "://" in text and "@" in text


def _dotted(key: Key) -> str:
    return ".".join(name if re.fullmatch(r"[\w-]+", name) else repr(name) for name in key)


def _spelled(key: Key, values: dict[str, object]) -> Key:
    """The `key` of a variable as `values` have it: ours are in small letters, those that a site gives in any.

    A name that `values` do not have is as the variable has it.
    """
    spelled: Key = ()
    for name in key:
        if (*_rule(spelled), _ANY) in _ALLOWED:
            table = _given(values, spelled)
            known = table if isinstance(table, dict) and name not in table else {}
            spelled = (*spelled, next((other for other in known if other.lower() == name.lower()), name))
        else:
            spelled = (*spelled, name.lower())
    return spelled


_ANY = "*"
"""Stands for a name that the site gives: of a library, of a technology..."""


def _allowed(table: type[Table], key: Key = ()) -> Iterator[tuple[Key, str]]:
    """What is allowed for `key`, which is `table`, and for every key below it."""
    yield key, f"a table of {', '.join(table.model_fields)}"
    for name, field in table.model_fields.items():
        yield from _allowed_for(field.annotation, str(field.description), (*key, name))


def _allowed_for(kind: Any, description: str, key: Key) -> Iterator[tuple[Key, str]]:
    if get_origin(kind) is dict:
        yield key, description
        _, values = get_args(kind)
        described = (more.description for more in get_args(values)[1:] if isinstance(more, FieldInfo))
        yield from _allowed_for(values, str(next(described, None)), (*key, _ANY))
    elif isinstance(kind, type) and issubclass(kind, Table):
        yield from _allowed(kind, key)
    else:
        yield key, description


_ALLOWED = dict(_allowed(Settings))


def _rule(key: Key, allowed: Mapping[Key, str] = _ALLOWED) -> Key:
    """The key in `allowed` that says what is allowed for `key`, or for as much of it as is known."""
    rule: Key = ()
    for name in key:
        found = next((below for below in ((*rule, name), (*rule, _ANY)) if below in allowed), None)
        if found is None:
            break
        rule = found
    return rule


def _is_known(key: Key) -> bool:
    return len(_rule(key)) == len(key)
