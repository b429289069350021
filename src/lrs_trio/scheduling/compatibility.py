"""Which drives take which tapes, as the tables of the settings say. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from lrs_trio.settings import TapeSettings


def compatible(medium_model: str | None, drive_model: str | None, settings: TapeSettings) -> bool:
    """Whether a drive of one model can read and write a tape of the other.

    Without any `tape_types` every drive takes every tape. With them, what they do not mention goes nowhere.
    """
    if not settings.tape_types:
        return True
    return any(drive_model in settings.drive_types.get(name, ()) for name in _drive_types(medium_model, settings))


def gaps(medium_models: Iterable[str | None], drive_models: Iterable[str | None], settings: TapeSettings) -> list[str]:
    """What the tables say nothing about, so that it is taken to fit nowhere: a line each, for a person to read."""
    if not settings.tape_types:
        return []
    listed = {model for models in settings.drive_types.values() for model in models}
    tapes = [model for model in _distinct(medium_models) if not _drive_types(model, settings)]
    types = [name for name in _distinct(chain(*settings.tape_types.values())) if name not in settings.drive_types]
    drives = [model for model in _distinct(drive_models) if model not in listed]
    return [
        *(f"no drive takes tapes of {_named(model)}: families.tape.tape_types has no such entry" for model in tapes),
        *(f"no drive is of the type {name}: families.tape.drive_types has no such entry" for name in types),
        *(f"no tape fits drives of {_named(model)}: families.tape.drive_types does not list it" for model in drives),
    ]


def technology(drive_model: str | None, settings: TapeSettings) -> str | None:
    """The X of the known models of tapes whose X_drive has this drive; ``None`` if there is none."""
    types = ((name, settings.drive_types.get(f"{name}_drive", ())) for name in settings.models)
    return next((name for name, models in types if drive_model in models), None)


def _drive_types(medium_model: str | None, settings: TapeSettings) -> tuple[str, ...]:
    return settings.tape_types.get(medium_model, ()) if medium_model is not None else ()


def _distinct(names: Iterable[str | None]) -> list[str | None]:
    return sorted(set(names), key=lambda name: (name is not None, name or ""))


def _named(model: str | None) -> str:
    return "an unknown model" if model is None else f"the model {model}"
