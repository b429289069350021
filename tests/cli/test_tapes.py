from __future__ import annotations

import errno
from typing import Any

import pytest
import trio

from lrs_trio.dss.operations import MediumUpdate, UpdateMedia
from lrs_trio.model import AdmStatus, FsStatus, FsType, LockType, NotifyOperation, RequestKind
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.tlc import TlcClient
from lrs_trio.wire.messages import Failed, Format, Formatted, RequestBody, ResponseBody
from tests.cli.tape_site import ELSEWHERE, TapeSite, medium, notified, refusing


@pytest.fixture
def three(tape_site: TapeSite) -> TapeSite:
    """A site with three new tapes."""
    tape_site.done("tape", "add", "P[00001-00003]L8", "--model", "LTO8")
    return tape_site


def update(site: TapeSite, label: str, **changes: Any) -> None:
    with site.home() as home:
        home.execute(UpdateMedia((MediumUpdate(medium(label), **changes),)))


def column(site: TapeSite, key: str, *args: str) -> list[Any]:
    return [row[key] for row in site.listed("tape", *args)]


def test_tapes_are_added_blank_and_locked(tape_site: TapeSite) -> None:
    lines = tape_site.done("tape", "add", "P[00001-00002]L8", "--model", "lto8", "--tag", "a", "--tag", "b")
    assert lines == ["P00001L8: added", "P00002L8: added"]
    first, second = tape_site.listed("tape")
    assert first["label"] == "P00001L8"
    assert first["stats"].keys() >= {"nb_obj", "nb_load", "nb_errors"}
    assert set(first["stats"].values()) == {0}
    assert second | {"label": "P00001L8"} == first
    del first["stats"]
    assert first == {
        "label": "P00001L8",
        "model": "LTO8",
        "library": "legacy",
        "adm_status": "locked",
        "fs_type": "LTFS",
        "fs_status": "blank",
        "fs_label": "",
        "address_type": "HASH1",
        "tags": ["a", "b"],
        "groupings": [],
        "put": True,
        "get": True,
        "delete": True,
        "lock": None,
    }


def test_tapes_may_be_added_unlocked_and_in_another_library(tape_site: TapeSite) -> None:
    tape_site.done("tape", "add", "--unlock", "--library", "north", "--model", "LTO9", "A")
    assert column(tape_site, "adm_status") == ["unlocked"]
    assert column(tape_site, "library") == ["north"]
    assert column(tape_site, "label", "--library", "legacy") == []


def test_a_model_that_there_is_not(tape_site: TapeSite) -> None:
    result = tape_site.run("tape", "add", "A", "--model", "LTO80")
    assert result.exit_code == errno.EINVAL
    assert "LTO8, LTO9" in result.stderr
    tape_site.configure(models=["LTO80"])
    tape_site.done("tape", "add", "A", "--model", "LTO80")


def test_only_what_adds_makes_a_dss(tape_site: TapeSite) -> None:
    for command in (["tape", "list"], ["tape", "lock", "A"], ["drive", "list"], ["drive", "delete", "A"]):
        result = tape_site.run(*command)
        assert result.exit_code == errno.ENOENT
        assert "does not exist" in result.stderr


@pytest.mark.parametrize("words", [["P[1-"], ["P[1-20000]"], ["P[9-1]"]])
def test_labels_that_cannot_be_read_are_a_wrong_command_line(tape_site: TapeSite, words: list[str]) -> None:
    for command in (["add", "--model", "LTO8"], ["lock"], ["delete"], ["list"]):
        result = tape_site.run("tape", *command, *words)
        assert result.exit_code == 2
        assert words[0] in result.stderr


def test_labels_with_signs_that_no_label_has(tape_site: TapeSite) -> None:
    result = tape_site.run("tape", "add", "A", "A,B", "--model", "LTO8")
    assert result.exit_code == errno.EINVAL
    assert "A,B" in result.stderr
    assert tape_site.listed("tape") == []


def test_every_label_has_its_own_result(three: TapeSite) -> None:
    result = three.run("tape", "add", "P[00003-00005]L8", "--model", "LTO8")
    assert result.exit_code == errno.EEXIST
    assert result.stdout.splitlines() == ["P00004L8: added", "P00005L8: added"]
    assert result.stderr.startswith("lrs: ")
    assert "P00003L8" in result.stderr
    assert len(three.listed("tape")) == 5


def test_status_without_a_daemon(three: TapeSite) -> None:
    result = three.run("tape", "unlock", "P[00001-00002]L8", "X")
    assert result.exit_code == errno.ENOENT
    assert result.stdout.splitlines() == ["P00001L8: unlocked", "P00002L8: unlocked"]
    assert "X: the DSS knows no such tape in library legacy" in result.stderr
    assert "the daemon does not run" in result.stderr
    assert column(three, "adm_status") == ["unlocked", "unlocked", "locked"]
    update(three, "P00002L8", adm_status=AdmStatus.FAILED)
    three.done("tape", "unlock", "P00002L8")
    three.done("tape", "lock", "P00001L8")
    assert column(three, "adm_status") == ["locked", "unlocked", "locked"]


def test_the_daemon_is_told_of_all_tapes_but_those_of_other_hosts(three: TapeSite) -> None:
    three.lock(LockType.MEDIA, medium("P00002L8"))
    three.lock(LockType.MEDIA, medium("P00003L8"), ELSEWHERE)
    with three.daemon() as script:
        lines = three.done("tape", "unlock", "P[00001-00003]L8")
    assert lines == [
        "P00001L8: unlocked",
        "P00002L8: unlocked",
        "P00003L8: unlocked; it is in use on host elsewhere, whose daemon is not told",
    ]
    told = [(NotifyOperation.MEDIA_UPDATE, medium(label), True) for label in ("P00001L8", "P00002L8")]
    assert notified(script) == told
    assert column(three, "adm_status") == ["unlocked"] * 3


def test_a_daemon_that_does_not_heed_is_an_error_of_that_tape(three: TapeSite) -> None:
    three.lock(LockType.MEDIA, medium("P00002L8"))
    with three.daemon(refusing(errno.EIO)):
        result = three.run("tape", "unlock", "P[00001-00003]L8")
    assert result.exit_code == errno.EIO
    assert result.stdout == ""
    assert result.stderr.count(": done in the DSS, but the daemon does not heed it") == 3
    assert column(three, "adm_status") == ["unlocked"] * 3


def test_a_tape_that_a_dead_daemon_held_needs_nobody_told(three: TapeSite) -> None:
    three.lock(LockType.MEDIA, medium("P00002L8"))
    assert three.done("tape", "unlock", "P00002L8") == ["P00002L8: unlocked"]


def test_access(three: TapeSite) -> None:
    def access(sign: str) -> list[bool]:
        assert three.done("tape", "set-access", sign, "P00001L8") == ["P00001L8: changed"]
        row = three.listed("tape", "P00001L8")[0]
        return [row["put"], row["get"], row["delete"]]

    assert access("-D") == [True, True, False]
    assert access("-PG") == [False, False, False]
    assert access("+GD") == [False, True, True]
    assert access("PG") == [True, True, False]
    assert access("=") == [False, False, False]
    assert [row["put"] for row in three.listed("tape")] == [False, True, True]


def test_access_that_cannot_be_read(three: TapeSite) -> None:
    for words in (["+X", "P00001L8"], ["P00001L8", "+P"], ["--library"], ["-PX", "P00001L8"], ["+P"]):
        assert three.run("tape", "set-access", *words).exit_code == 2


def test_access_is_told_to_the_daemon(three: TapeSite) -> None:
    three.lock(LockType.MEDIA, medium("P00001L8"))
    with three.daemon() as script:
        three.done("tape", "set-access", "-P", "P00001L8")
        three.done("tape", "update", "--tags", "x", "P00001L8")
    assert notified(script) == [(NotifyOperation.MEDIA_UPDATE, medium("P00001L8"), True)] * 2


def test_tags_are_replaced_and_found(three: TapeSite) -> None:
    three.done("tape", "update", "--tags", "a,b", "P00001L8", "P00002L8")
    three.done("tape", "update", "--tags", "b", "P00002L8")
    assert column(three, "tags") == [["a", "b"], ["b"], []]
    assert column(three, "label", "--tags", "b") == ["P00001L8", "P00002L8"]
    assert column(three, "label", "--tags", "b,a") == ["P00001L8"]
    three.done("tape", "update", "--tags", "", "P00001L8")
    assert column(three, "tags") == [[], ["b"], []]


def test_a_tape_with_objects_is_only_deleted_by_force(three: TapeSite) -> None:
    with three.home() as home:
        home.commit([UpdateMedia((MediumUpdate(medium("P00002L8"), add_objects=1),))])
    result = three.run("tape", "delete", "P[00001-00002]L8")
    assert result.exit_code == errno.ENOTEMPTY
    assert result.stdout.splitlines() == ["P00001L8: deleted from the DSS"]
    three.done("tape", "delete", "--force", "P00002L8")
    assert column(three, "label") == ["P00003L8"]


def test_delete(three: TapeSite) -> None:
    three.lock(LockType.MEDIA, medium("P00002L8"))
    result = three.run("tape", "delete", "P[00001-00004]L8")
    assert result.exit_code == errno.EBUSY
    assert result.stdout.splitlines() == ["P00001L8: deleted from the DSS", "P00003L8: deleted from the DSS"]
    busy, unknown = result.stderr.splitlines()
    assert "P00002L8" in busy
    assert "pid 4711 on here" in busy
    assert unknown.endswith("[ENOENT]")
    assert column(three, "label") == ["P00002L8"]


def test_list_of_some(three: TapeSite) -> None:
    result = three.run("tape", "list", "P[00002-00004]L8")
    assert result.exit_code == errno.ENOENT
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["label", "P00002L8", "P00003L8"]
    assert "P00004L8" in result.stderr


def test_the_table_has_what_people_ask_for(three: TapeSite) -> None:
    update(
        three,
        "P00001L8",
        set_objects=7,
        set_logical=2**30,
        phys_spc_free=2**40,
        fs_status=FsStatus.USED,
        add_groupings=("g",),
        add_loads=3,
        add_errors=1,
        tags=("a", "b"),
        delete=False,
    )
    three.lock(LockType.MEDIA, medium("P00001L8"))
    heading, first, second, _ = three.done("tape", "list")
    assert heading.split()[-4:] == ["loads", "errors", "used", "by"]
    text = "P00001L8 LTO8 legacy locked used 7 1.0 GiB 1.0 TiB a b g PG 3 1 pid 4711 on here"
    assert " ".join(first.split()) == text
    assert " ".join(second.split()) == "P00002L8 LTO8 legacy locked blank 0 0 B 0 B PGD 0 0"


def test_format_needs_the_daemon(three: TapeSite) -> None:
    result = three.run("tape", "format", "P00001L8")
    assert result.exit_code == errno.ECONNREFUSED
    assert "start lrsd" in result.stderr


def test_formats_are_asked_for_together_and_told_one_by_one(three: TapeSite) -> None:
    def answer(body: RequestBody) -> ResponseBody:
        assert isinstance(body, Format)
        update(three, body.medium.name, fs_status=FsStatus.EMPTY)
        return Formatted(body.medium)

    with three.daemon(answer) as script:
        result = three.run("tape", "format", "P[00001-00003]L8", "--streams", "2")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"P0000{number}L8: formatted" for number in (1, 2, 3)]
    assert "3 tapes not in use until unlocked: lrs tape unlock 'P[00001-00003]L8'" in result.stderr
    assert script.bodies == [Format(medium(f"P0000{number}L8"), FsType.LTFS) for number in (1, 2, 3)]


def test_format_passes_on_what_it_is_asked(three: TapeSite) -> None:
    with three.daemon() as script:
        result = three.run("tape", "format", "P00001L8", "--unlock", "--force")
    assert (result.exit_code, result.stderr) == (0, "")
    assert script.bodies == [Format(medium("P00001L8"), FsType.LTFS, unlock=True, force=True)]


def test_why_a_tape_is_not_formatted(three: TapeSite) -> None:
    update(three, "P00002L8", fs_status=FsStatus.USED)
    three.lock(LockType.MEDIA, medium("P00003L8"), ELSEWHERE)
    numbers = {"P00001L8": errno.ENODEV, "P00002L8": errno.EINVAL, "P00003L8": errno.EBUSY, "X": errno.ENXIO}

    def answer(body: RequestBody) -> ResponseBody:
        assert isinstance(body, Format)
        return Failed(-numbers[body.medium.name], RequestKind.FORMAT)

    with three.daemon(answer):
        result = three.run("tape", "format", "P[00001-00003]L8", "X")
    assert result.exit_code == errno.ENODEV
    drives, used, elsewhere, unknown = result.stderr.splitlines()
    assert drives.startswith("lrs: P00001L8: not formatted: no drive in service can take it")
    assert drives.endswith("[ENODEV]")
    assert "--force" in used
    assert "on host elsewhere" in elsewhere
    assert "X: not formatted: the DSS knows no such tape" in unknown


def test_a_daemon_that_ends_meanwhile(three: TapeSite) -> None:
    class EndsError(OSError):
        pass

    def answer(body: RequestBody) -> ResponseBody:
        raise EndsError

    with three.daemon(answer):
        result = three.run("tape", "format", "P00001L8")
    assert result.exit_code == errno.ECONNRESET


async def reaches_its_library(client: TlcClient) -> bool:
    await trio.lowlevel.checkpoint()
    return True


def test_tapes_from_a_controller(three: TapeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def slot(address: int, label: str | None) -> Element:
        return Element(ElementKind.SLOT, address, label is not None, label)

    labels = ["P00009L8", "P00001L8", None, "P00004L7", "CLN001L8", "OTHER1"]
    elements = tuple(slot(address, label) for address, label in enumerate(labels))
    elements += (Element(ElementKind.DRIVE, 256, True, "P00005L8"), Element(ElementKind.DRIVE, 257, True, None))

    async def status(client: TlcClient, refresh: bool = False) -> tuple[Element, ...]:
        assert str(client) == "the tape library controller at localhost:20123"
        return elements

    monkeypatch.setattr(TlcClient, "ping", reaches_its_library)
    monkeypatch.setattr(TlcClient, "status", status)
    lines = three.done("tape", "add", "--from-library", "--model", "LTO8")
    assert lines == ["OTHER1: added", "P00005L8: added", "P00009L8: added"]
    again = three.run("tape", "add", "--from-library", "--model", "LTO8")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "no tape for LTO8" in again.stderr


def test_a_controller_that_does_not_answer(three: TapeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def status(client: TlcClient, refresh: bool = False) -> tuple[Element, ...]:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(TlcClient, "ping", reaches_its_library)
    monkeypatch.setattr(TlcClient, "status", status)
    three.configure(timeouts={"look_up_s": 0.001})
    result = three.run("tape", "add", "--from-library", "--model", "LTO8")
    assert result.exit_code == errno.ETIMEDOUT
    assert "0.001 s" in result.stderr


def test_tapes_from_a_virtual_library(tape_site: TapeSite) -> None:
    tape_site.make_virtual_library()
    lines = tape_site.done("tape", "add", "--from-library", "--model", "LTO8")
    assert lines == [f"V0000{number}L8: added" for number in range(1, 9)]
    assert tape_site.done("tape", "add", "--from-library", "--model", "LTO7") == []


def test_a_real_daemon_formats_and_heeds(tape_site: TapeSite) -> None:
    tape_site.make_virtual_library()
    tape_site.done("tape", "add", "--from-library", "--model", "LTO8")
    with tape_site.real_daemon() as daemon:
        tape_site.done("drive", "add", "--unlock", "VD0001", "VD0002")
        lines = tape_site.done("tape", "format", "--unlock", "V[00001-00003]L8")
        assert sorted(lines) == [f"V0000{number}L8: formatted" for number in (1, 2, 3)]
        rows = {row["label"]: row for row in tape_site.listed("tape")}
        assert [rows[f"V0000{number}L8"]["fs_status"] for number in (1, 2, 3, 4)] == ["empty"] * 3 + ["blank"]
        assert [row["adm_status"] for row in rows.values()] == ["unlocked"] * 3 + ["locked"] * 5
        held = [label for label, row in rows.items() if row["lock"]]
        assert {rows[label]["lock"]["pid"] for label in held} == {daemon.pid}
        again = tape_site.run("tape", "format", held[0])
        assert again.exit_code == errno.EINVAL
        assert "--force" in again.stderr
        tape_site.done("tape", "lock", held[0])
        shown = "\n".join(tape_site.done("status"))
        assert "2 in drives, 6 on the shelf" in shown
        assert "locked medium" in shown
        busy = tape_site.run("tape", "delete", held[0])
        assert busy.exit_code == errno.EBUSY
        tape_site.done("drive", "lock", "VD0001", "VD0002")
        tape_site.done("tape", "delete", held[0])


def test_labels_or_the_library_but_not_both(tape_site: TapeSite) -> None:
    assert tape_site.run("tape", "add", "--model", "LTO8").exit_code == 2
    assert tape_site.run("tape", "add", "A", "--from-library", "--model", "LTO8").exit_code == 2
