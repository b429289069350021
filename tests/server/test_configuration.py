"""The configure request: what is set, what it changes, and what is got; most of it through a connection in memory."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from lrs_trio.errors import LrsError
from lrs_trio.model import ConfigureOperation, Family, RequestKind
from lrs_trio.phobos.configuration import PhobosConfiguration
from lrs_trio.server.configuration import LONGEST_TEXT, MOST_VALUES, Configuration, LiveConfiguration
from lrs_trio.settings import DirectorySettings, FairShareSettings, FamilySettings, LtfsSettings, TapeSettings
from lrs_trio.wire.codec import decode_request, encode_request, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import Configure, Configured, Failed, Response
from tests.fakes.house import House, house_of
from tests.fakes.peer import Peer, door_of
from tests.fakes.site import family_settings

CAPTURED = Path(__file__).parent.parent / "vectors" / "phobos-3.3-frames.jsonl"
SET, GET = ConfigureOperation.SET, ConfigureOperation.GET


def item(section: str, key: str, value: str | None = None) -> dict[str, object]:
    return {"section": section, "key": key, **({} if value is None else {"value": value})}


def refused(number: int) -> Failed:
    return Failed(-number, RequestKind.CONFIGURE)


class Administrator:
    """Somebody who configures the daemon of `house`."""

    def __init__(self, house: House, peer: Peer) -> None:
        self.house = house
        self._peer = peer

    async def ask(self, operation: ConfigureOperation, configuration: str) -> object:
        await self._peer.send((3, Configure(operation, configuration)))
        response = await self._peer.receive()
        assert response.request_id == 3
        return response.body

    async def set(self, *items: dict[str, object]) -> object:
        return await self.ask(SET, json.dumps(items))

    async def get(self, *names: tuple[str, str]) -> list[str]:
        body = await self.ask(GET, json.dumps([item(*name) for name in names]))
        assert isinstance(body, Configured), body
        values: list[str] = json.loads(body.configuration or "")
        return values


@asynccontextmanager
async def administrator(*, given: Configuration | None = None) -> AsyncIterator[Administrator]:
    async with house_of("/srv/a") as house, door_of(house, configuration=given) as door:
        yield Administrator(house, door.connect())


# What is kept.


async def test_what_is_set_can_be_got_for_as_long_as_the_daemon_lives(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        one, other = (Administrator(house, door.connect()) for _ in range(2))
        assert await one.set(item("s", "k", "v")) == Configured()
        assert await other.get(("s", "unset"), ("s", "k")) == ["", "v"]
        await one.set(item("s", "k", ""))
        assert await other.get(("s", "k")) == [""]


async def test_names_are_the_same_when_their_environment_variables_are(autojump_clock: MockClock) -> None:
    async with administrator() as admin:
        await admin.set(item('tlc "my lib"', "Port", "1"), item("io_sched_tape", "fair_share_LTO5_min", "2"))
        same = [("TLC my_lib", "port"), ("tlc_MY_LIB", "PORT"), ("IO_SCHED_TAPE", "fair_share_lto5_min")]
        assert await admin.get(*same, ("tlcmylib", "port")) == ["1", "1", "2", ""]


async def test_an_answer_is_a_compact_array_of_strings(autojump_clock: MockClock) -> None:
    async with administrator() as admin:
        await admin.set(item("s", "k", 'an "é", a \\ and a /'))
        assert await admin.ask(GET, "[]") == Configured("[]")
        asked = json.dumps([item("s", "k"), item("s", "k2"), item("s", "k")])
        assert await admin.ask(GET, asked) == Configured(r'["an \"é\", a \\ and a /","","an \"é\", a \\ and a /"]')


async def test_the_built_in_defaults_are_not_consulted(autojump_clock: MockClock) -> None:
    async with administrator() as admin:
        assert await admin.get(("lrs", "policy"), ("dir", "dir_full_threshold")) == ["", ""]


async def test_what_nobody_has_set_comes_from_the_configuration_of_phobos(autojump_clock: MockClock) -> None:
    content = {"lrs": {"policy": "first_fit", "families": "dir"}, "s": {"bytes": "caf\udce9"}}
    given = PhobosConfiguration(Path("phobos.conf"), content, {"PHOBOS_LRS_families": "dir,tape"})
    async with administrator(given=given) as admin:
        names = ("lrs", "policy"), ("LRS", "families"), ("lrs", "nothing"), ("s", "bytes")
        assert await admin.get(*names) == ["first_fit", "dir,tape", "", "caf\N{REPLACEMENT CHARACTER}"]
        await admin.set(item("LRS", "FAMILIES", "tape"), item("lrs", "policy", "best_fit"))
        assert await admin.get(*names[:2]) == ["best_fit", "tape"]
        assert given.get("lrs", "families") == "tape"


# What is wrong.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", errno.EPROTO),
        ("{", errno.EINVAL),
        ("{}", errno.EINVAL),
        ("[1]", errno.EINVAL),
        ("[null]", errno.EINVAL),
        ('[{"section": "s"}]', errno.EINVAL),
        ('[{"section": "s", "key": 1}]', errno.EINVAL),
        ('[{"section": "s", "section": "t", "key": "k"}]', errno.EINVAL),
        (r'[{"section": "\ud800", "key": "k", "value": "v"}]', errno.EINVAL),
        (r'[{"section": "s", "key": "\u0000", "value": "v"}]', errno.EINVAL),
        ("[" * 100_000, errno.EINVAL),
        (json.dumps([item("s", "k", "v")] * (MOST_VALUES + 1)), errno.EINVAL),
    ],
)
async def test_a_configuration_that_is_none_is_refused(autojump_clock: MockClock, text: str, expected: int) -> None:
    async with administrator() as admin:
        for operation in (SET, GET):
            assert await admin.ask(operation, text) == refused(expected)


@pytest.mark.parametrize(
    "faulty",
    [
        item("s", "k3"),
        item("lrs", "policy", "worst_fit"),
        item("lrs", "policy", "Best_fit"),
        item("lrs", "grouping_on_dir", "True"),
        item("lrs", "grouping_on_dir", "1"),
        item("lrs", "locate_lock_expirancy", "-1"),
        item("lrs", "locate_lock_expirancy", "2147483648"),
        item("lrs", "locate_lock_expirancy", "1s"),
        item("dir", "dir_full_threshold", "0"),
        item("dir", "dir_full_threshold", "100"),
        item("DIR", "dir_full_threshold", ""),
    ],
)
async def test_what_comes_before_a_faulty_element_stays_set(
    autojump_clock: MockClock, faulty: dict[str, object]
) -> None:
    async with administrator() as admin:
        assert await admin.set(item("s", "k1", "v"), item("lrs", "policy", "first_fit"), faulty) == refused(
            errno.EINVAL
        )
        assert await admin.get(("s", "k1"), ("lrs", "policy")) == ["v", "first_fit"]
        assert admin.house.family.settings == family_settings(policy="first_fit")


async def test_what_comes_after_a_faulty_element_is_not_set(autojump_clock: MockClock) -> None:
    async with administrator() as admin:
        assert await admin.set(item("lrs", "policy", "x"), item("s", "k", "v")) == refused(errno.EINVAL)
        assert await admin.get(("lrs", "policy"), ("s", "k")) == ["", ""]


async def test_no_more_is_kept_than_a_daemon_can_bear(autojump_clock: MockClock) -> None:
    async with administrator() as admin:
        assert await admin.set(*[item("s", str(number), "v") for number in range(MOST_VALUES)]) == Configured()
        assert await admin.set(item("s", "one more", "v")) == refused(errno.ENOSPC)
        assert await admin.set(item("s", "0", "again")) == Configured()
        assert await admin.set(item("s", "0", "x" * (LONGEST_TEXT + 1))) == refused(errno.ENOSPC)
        assert await admin.get(("s", "0"), ("s", "one more")) == ["again", ""]


async def test_an_answer_that_no_frame_holds_is_refused(autojump_clock: MockClock) -> None:
    async with administrator() as admin:
        await admin.set(item("s", "k", "x" * LONGEST_TEXT))
        assert await admin.ask(GET, json.dumps([item("s", "k")] * 600)) == refused(errno.EMSGSIZE)


# What has an effect.


@pytest.mark.parametrize(
    ("section", "key", "value", "changed"),
    [
        ("lrs", "policy", "first_fit", {"policy": "first_fit"}),
        ("LRS", "Grouping_On_Dir", "true", {"groupings": True}),
        ("lrs", "locate_lock_expirancy", "1500", {"locate_expiry_ms": 1500}),
        ("dir", "dir_full_threshold", "7", {"full_threshold_percent": 7}),
    ],
)
async def test_what_the_family_reads_again_takes_effect(
    autojump_clock: MockClock, section: str, key: str, value: str, changed: dict[str, Any]
) -> None:
    async with administrator() as admin:
        assert await admin.set(item(section, key, value)) == Configured()
        assert admin.house.family.settings == family_settings(**changed)
        assert await admin.get((section.upper(), key.lower())) == [value]


async def test_what_has_no_effect_is_told_once_a_key(autojump_clock: MockClock) -> None:
    async with administrator() as admin:
        with capture_logs() as lines:
            for _ in range(2):
                await admin.set(item("lrs", "policy", "first_fit"), item("io_sched_tape", "fair_share_LTO5_min", "1"))
            await admin.set(item("IO_SCHED_TAPE", "fair_share_lto5_min", "2"), item("lrs", "mount_prefix", "/m"))
        told = [line["settings"] for line in lines if "no effect" in line["event"]]
        assert told == ["[io_sched_tape] fair_share_LTO5_min", "[lrs] mount_prefix"]


# What tapes heed.

TAPES = TapeSettings(
    enabled=True,
    models=("LTO7", "LTO8"),
    tape_types={"LTO7": ("LTO7_drive", "Old_drive")},
    drive_types={"LTO8_drive": ("TD8",)},
    fair_share={"LTO7": FairShareSettings(min=(1, 1, 1))},
)
SHARES = "three whole numbers, 0 or more: for reads, writes and formats"


@dataclass
class Heeding:
    """A family that does nothing but change its settings."""

    family: Family
    settings: FamilySettings
    changes: int = 0

    def change_settings(self, settings: FamilySettings) -> None:
        self.settings = settings
        self.changes += 1


class Host:
    """The configuration of a host that serves directories and tapes."""

    def __init__(self) -> None:
        self.tapes = Heeding(Family.TAPE, TAPES)
        self.directories = Heeding(Family.DIR, DirectorySettings())
        families = {family.family: family for family in (self.directories, self.tapes)}
        self._live = LiveConfiguration(families, None)

    def set(self, *items: dict[str, object]) -> None:
        self._live.answer(Configure(SET, json.dumps(items)))

    def get(self, section: str, key: str) -> str:
        answer = self._live.answer(Configure(GET, json.dumps([item(section, key)])))
        (value,) = json.loads(answer.configuration or "")
        return str(value)

    @property
    def changes(self) -> int:
        return self.tapes.changes + self.directories.changes


def share(technology: str, **bounds: tuple[int, int, int]) -> dict[str, FairShareSettings]:
    return {**TAPES.fair_share, technology: FairShareSettings(**bounds)}


@pytest.mark.parametrize(
    ("section", "key", "value", "changed"),
    [
        ("io_sched_tape", "fair_share_LTO8_min", "1,2,0", {"fair_share": share("LTO8", min=(1, 2, 0))}),
        ("IO_SCHED_TAPE", "Fair_Share_lto8_Max", "4,0,1", {"fair_share": share("LTO8", max=(4, 0, 1))}),
        (
            "io_sched_tape",
            "fair_share_LTO7_max",
            "2,2,2",
            {"fair_share": share("LTO7", min=(1, 1, 1), max=(2, 2, 2))},
        ),
        ("tape", "tape_full_threshold", "9", {"full_threshold_percent": 9}),
        ("ltfs", "cmd_mount", "m %s %s", {"ltfs": LtfsSettings(mount="m %s %s")}),
        ("LTFS", "cmd_umount", "u %s %s", {"ltfs": LtfsSettings(unmount="u %s %s")}),
        ("ltfs", "CMD_FORMAT", "f %s %s", {"ltfs": LtfsSettings(format="f %s %s")}),
        ("lrs", "mount_prefix", "/srv/x-", {"mount_prefix": "/srv/x-"}),
        ('tape_type "LTO7"', "drive_rw", "LTO7_drive", {"tape_types": {"LTO7": ("LTO7_drive",)}}),
        ("TAPE_TYPE lto8", "drive_rw", "a,b c", {"tape_types": {**TAPES.tape_types, "LTO8": ("a", "b c")}}),
        ('tape_type "New"', "drive_rw", "", {"tape_types": {**TAPES.tape_types, "New": ()}}),
        ('drive_type "lto8_DRIVE"', "models", "TD8,TD9", {"drive_types": {"LTO8_drive": ("TD8", "TD9")}}),
        ('drive_type "OLD_DRIVE"', "models", "x", {"drive_types": {**TAPES.drive_types, "Old_drive": ("x",)}}),
        ('drive_type "new one"', "models", "x", {"drive_types": {**TAPES.drive_types, "new one": ("x",)}}),
    ],
)
def test_what_tapes_read_again_takes_effect(section: str, key: str, value: str, changed: dict[str, Any]) -> None:
    host = Host()
    assert host.get(section, key) == ""
    host.set(item(section, key, value))
    assert host.tapes.settings == TAPES.model_copy(update=changed)
    assert host.directories.changes == 0
    assert host.get(section, key) == value


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [("policy", "first_fit", {"policy": "first_fit"}), ("locate_lock_expirancy", "9", {"locate_expiry_ms": 9})],
)
def test_what_all_families_read_again_takes_effect_in_each(key: str, value: str, changed: dict[str, Any]) -> None:
    host = Host()
    host.set(item("lrs", key, value))
    assert host.tapes.settings == TAPES.model_copy(update=changed)
    assert host.directories.settings == DirectorySettings(**changed)


@pytest.mark.parametrize(
    ("section", "key", "value", "allowed"),
    [
        *[
            ("io_sched_tape", "fair_share_LTO8_min", value, SHARES)
            for value in ("", "1", "1,1", "1,1,1,1", "1, 1,1", "-1,1,1", "+1,1,1", "1,1,2147483648", "a,b,c")
        ],
        ("tape", "tape_full_threshold", "0", "a whole number from 1 to 99"),
        ("ltfs", "cmd_mount", "mount %s", "a command line with %s twice, and %% for a per cent sign"),
        ("lrs", "mount_prefix", "mnt", "the beginning of an absolute path"),
        ("lrs", "policy", "worst_fit", "best_fit or first_fit"),
    ],
)
def test_what_tapes_cannot_heed_changes_nothing(section: str, key: str, value: str, allowed: str) -> None:
    host = Host()
    with pytest.raises(LrsError) as refused:
        host.set(item(section, key, value), item("s", "later", "v"))
    assert refused.value.errno == errno.EINVAL
    assert refused.value.strerror == f"[{section}] {key} = {value!r}: must be {allowed}"
    assert host.changes == 0
    assert host.get(section, key) == host.get("s", "later") == ""


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("io_sched_tape", "fair_share_LTO5_min"),  # no model of tapes here
        ("io_sched_dir", "fair_share_LTO8_min"),
        ("io_sched_tape", "fair_share_LTO8_mean"),
        ("tape_type", "drive_rw"),
        ('tape_type "LTO8"', "models"),
        ("io_sched_tape", "read_algo"),
        ("ltfs", "cmd_release"),
        ("lrs", "sync_time_ms"),
    ],
)
def test_what_nothing_reads_again_is_kept_and_told(section: str, key: str) -> None:
    host = Host()
    with capture_logs() as lines:
        host.set(item(section, key, "x"))
    assert [line["settings"] for line in lines] == [f"[{section}] {key}"]
    assert host.changes == 0
    assert host.get(section, key) == "x"


# What a real administrator sends.


def captured(case: str) -> tuple[bytes, bytes]:
    """The frames of a request and of the answer to it."""
    lines = [json.loads(line) for line in CAPTURED.read_text().splitlines()]
    request, response = (bytes.fromhex(line["frame"]) for line in lines if line["case"] == case)
    return request, response


@pytest.mark.parametrize("case", ["31_sched_fair_share_get", "32_sched_fair_share_set"])
async def test_a_captured_request_gets_the_captured_answer(autojump_clock: MockClock, case: str) -> None:
    asked, answered = captured(case)
    request = decode_request(next(FrameDecoder().feed(asked)))
    assert encode_frame(encode_request(request)) == asked
    assert isinstance(request.body, Configure)
    async with administrator() as admin:
        body = await admin.ask(request.body.operation, request.body.configuration)
        assert isinstance(body, Configured)
        assert encode_frame(encode_response(Response(request.id, body))) == answered
        if request.body.operation is SET:
            limits = [("io_sched_tape", f"fair_share_LTO5_{limit}") for limit in ("min", "max")]
            assert await admin.get(*limits) == ["1,1,1", "2,2,2"]
