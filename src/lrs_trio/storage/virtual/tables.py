"""The TOML files of a virtual library: each has one table, checked on reading."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TypeVar

from pydantic import BeforeValidator, ValidationError

from lrs_trio.errors import LrsError, SettingsError
from lrs_trio.location import read_toml
from lrs_trio.settings import Table

T = TypeVar("T", bound=Table)

ARRAY = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
"""TOML has no tuples."""


def read_table(file: Path, kind: type[T]) -> T:
    """What is in `file`.

    Raises:
        LrsError: EINVAL, it cannot be read or is something else; a line for each thing that is wrong.
    """
    try:
        return kind.model_validate(read_toml(file))
    except SettingsError as error:
        raise LrsError(errno.EINVAL, str(error)) from error
    except ValidationError as invalid:
        problems = [
            f"{file}: {'.'.join(map(str, details['loc'])) or 'the file'}: {details['msg']}"
            for details in invalid.errors(include_url=False)
        ]
        raise LrsError(errno.EINVAL, "\n".join(problems)) from invalid
