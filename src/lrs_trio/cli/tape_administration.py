"""What the administration of tapes does, many tapes at a time. The command line and the demo use it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from lrs_trio.cli.access import Access
from lrs_trio.cli.administration import LibraryAdministration, holds_objects
from lrs_trio.cli.hardware import cartridge_labels
from lrs_trio.cli.labels import may_be_of
from lrs_trio.cli.results import Result
from lrs_trio.dss.operations import (
    AddMedia,
    DeleteMedium,
    MediumRow,
    MediumUpdate,
    Operation,
    Outcome,
    ReadMedia,
    ReadMedium,
    UpdateMedia,
)
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import AddressType, AdmStatus, Family, FsStatus, FsType, Medium, NotifyOperation, ResourceId

_LABEL: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")


class TapeAdministration(LibraryAdministration):
    """Adds, formats, changes and deletes the tapes of one library.

    What is done to many gives a result for each label. What keeps all of it from being done raises `OSError`, or
    `DssUnavailableError`.
    """

    def medium_id(self, label: str) -> ResourceId:
        return ResourceId(Family.TAPE, label, self._library)

    def model(self, name: str) -> str:
        """The model called `name`, as the settings write it.

        Raises:
            LrsError: EINVAL, the settings have no such model.
        """
        models = self._settings.families.tape.models
        for model in models:
            if model.lower() == name.lower():
                return model
        raise LrsError(
            errno.EINVAL,
            f"{name}: no such model of tapes; families.tape.models in the settings has {', '.join(models)}",
        )

    def new_labels(self, model: str) -> list[str]:
        """The labels of the library's cartridges of this model that the DSS does not know.

        Cleaning cartridges are left out, and those whose barcodes end with the sign of another generation of LTO.

        Raises:
            SettingsError: the settings have no such library.
            LrsError: EINVAL, they have no such model; else the library cannot be asked.
        """
        model, library = self.model(model), self._library
        known = {row.medium.id.name for row in self.tapes() if row.medium.id.library == library}
        return [
            label
            for label in cartridge_labels(library, self._settings)
            if label not in known and may_be_of(label, model)
        ]

    def add(
        self, labels: Sequence[str], model: str, *, unlock: bool = False, tags: tuple[str, ...] = ()
    ) -> list[Result]:
        """Make blank tapes known, locked unless `unlock`.

        Raises:
            LrsError: EINVAL, there is no such model, or a label has characters that labels do not have.
        """
        model = self.model(model)
        for label in labels:
            if not _LABEL.fullmatch(label):
                raise LrsError(
                    errno.EINVAL, f"{label}: a label has letters, digits, '.', '_' and '-', and nothing else"
                )
        status = AdmStatus.UNLOCKED if unlock else AdmStatus.LOCKED
        media = [
            Medium(
                self.medium_id(label),
                FsType.LTFS,
                status,
                address_type=AddressType.HASH1,
                model=model,
                tags=tags,
            )
            for label in labels
        ]
        return self._commit_each(labels, [AddMedia((medium,)) for medium in media])

    def format(
        self, labels: Sequence[str], *, unlock: bool = False, force: bool = False, streams: int = 0
    ) -> Iterator[Result]:
        """Have the daemon format tapes, `streams` at once (0: as many as it takes); the results as they come.

        They are unlocked with it if `unlock`; what is on them is lost, so only blank ones are formatted unless `force`.
        """
        client = self._formatter()
        most = self._settings.server.max_requests_per_connection
        formats = client.format_all(
            map(self.medium_id, labels),
            fs_type=FsType.LTFS,
            unlock=unlock,
            force=force,
            at_once=min(streams or most, most),
        )
        for medium, error in formats:
            yield Result(medium.name, None if error is None else self._not_formatted(medium, error, force=force))

    def locked(self, labels: Iterable[str]) -> list[str]:
        """Those of `labels` whose tapes are formatted, and only need to be unlocked to be used."""
        library = self._library
        rows = {row.medium.id.name: row.medium for row in self.tapes() if row.medium.id.library == library}
        return [
            label
            for label in labels
            if label in rows
            and rows[label].fs_status is not FsStatus.BLANK
            and rows[label].adm_status is AdmStatus.LOCKED
        ]

    def set_status(self, labels: Sequence[str], status: AdmStatus) -> list[Result]:
        return self._update(labels, [MediumUpdate(self.medium_id(label), adm_status=status) for label in labels])

    def set_tags(self, labels: Sequence[str], tags: tuple[str, ...]) -> list[Result]:
        return self._update(labels, [MediumUpdate(self.medium_id(label), tags=tags) for label in labels])

    def set_access(self, labels: Sequence[str], access: Access) -> list[Result]:
        return self._update(
            labels,
            [
                MediumUpdate(self.medium_id(label), put=access.put, get=access.get, delete=access.delete)
                for label in labels
            ],
        )

    def delete(self, labels: Sequence[str], *, force: bool = False) -> list[Result]:
        """Forget tapes that no daemon holds, those with objects only by `force`; what is on them stays there."""
        rows = self._home.commit([ReadMedium(self.medium_id(label)) for label in labels])
        full = {label for label, row in zip(labels, rows, strict=True) if _holds_objects(row) and not force}
        empty = [label for label in labels if label not in full]
        refused = [Result(label, holds_objects(label)) for label in labels if label in full]
        return refused + self._commit_each(empty, [DeleteMedium(self.medium_id(label)) for label in empty])

    def tapes(self) -> tuple[MediumRow, ...]:
        """All tapes in the DSS, of all libraries."""
        return self._home.execute(ReadMedia(Family.TAPE))

    def _commit_each(self, labels: Sequence[str], operations: Sequence[Operation[None]]) -> list[Result]:
        """Do one operation for each label in one transaction, in which each succeeds or is refused alone."""
        outcomes = self._home.commit(operations)
        return [
            Result(label, outcome if isinstance(outcome, LrsError) else None)
            for label, outcome in zip(labels, outcomes, strict=True)
        ]

    def _update(self, labels: Sequence[str], updates: Sequence[MediumUpdate]) -> list[Result]:
        """Change tapes in the DSS, then tell the daemon of those that it holds."""
        writes = [UpdateMedia((update,)) for update in updates]
        reads = [ReadMedium(update.id) for update in updates]
        outcomes = self._home.commit([*writes, *reads])
        pairs = zip(labels, outcomes[: len(labels)], outcomes[len(labels) :], strict=True)
        return [self._updated(label, written, row) for label, written, row in pairs]

    def _updated(self, label: str, written: Outcome, row: Outcome) -> Result:
        """What became of one update, given the outcomes of the update itself and of reading the tape again."""
        error = next((outcome for outcome in (written, row) if isinstance(outcome, LrsError)), None)
        if error is None and isinstance(row, MediumRow):
            return self._told(row)
        return Result(label, error or self._unknown(label))

    def _told(self, row: MediumRow) -> Result:
        """The result of a change of this tape, of which the daemon is told: also one on the shelf may be waited for."""
        id, lock = row.medium.id, row.lock
        if lock is not None and lock.owner.host != self._host:
            return Result(id.name, remark=f"it is in use on host {lock.owner.host}, whose daemon is not told")
        try:
            with self._done_all_the_same(id.name, "done", "will heed it"):
                self._tell(NotifyOperation.MEDIA_UPDATE, id)
        except LrsError as error:
            return Result(id.name, error)
        return Result(id.name)

    def _unknown(self, label: str) -> LrsError:
        return LrsError(
            errno.ENOENT,
            f"{label}: the DSS knows no such tape in library {self._library}; lrs tape list shows those it knows",
        )

    def _not_formatted(self, medium: ResourceId, error: OSError, *, force: bool) -> LrsError:
        why = self._why_not_formatted(medium, error, force=force)
        return LrsError(error.errno or errno.EIO, f"{medium.name}: not formatted: {why}")

    def _why_not_formatted(self, medium: ResourceId, error: OSError, *, force: bool) -> str:
        """The daemon answers with a number; what it means here is in the DSS."""
        row = self._home.execute(ReadMedium(medium))
        if row is None:
            return f"the DSS knows no such tape in library {self._library}"
        status = row.medium.fs_status
        if status is FsStatus.IMPORTING:
            return "it is being imported"
        if status is not FsStatus.BLANK and not force:
            return f"its filesystem status is {status.value}; --force formats it, and what is on it is lost"
        if row.lock is not None and row.lock.owner.host != self._host:
            return f"it is in use on host {row.lock.owner.host}"
        if error.errno == errno.ENODEV:
            return "no drive in service can take it; lrs drive status shows those that there are"
        if error.errno == errno.ENXIO:
            return f"the library does not have it; lrs lib scan {self._library} --refresh shows what it has"
        if error.errno == errno.ETIMEDOUT:
            return "it did not end in time, and its drive is out of service: see lrs drive status"
        if error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH):
            return "the library cannot be reached: see lrs lib status"
        return describe(error)


def _holds_objects(row: Outcome) -> bool:
    return isinstance(row, MediumRow) and row.medium.stats.nb_obj > 0
