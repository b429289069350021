"""Every message that the wire can carry, for hypothesis."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from lrs_trio.model import (
    AddressType,
    ConfigureOperation,
    Family,
    FsType,
    NotifyOperation,
    ReadOperation,
    RequestKind,
    ResourceId,
    SyncThresholds,
)
from lrs_trio.wire import messages as m

T = TypeVar("T")

texts = st.text(max_size=8)
maybe_texts = st.none() | texts
maybe_groupings = st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
booleans = st.booleans()
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
kinds = st.sampled_from(RequestKind)
families = st.sampled_from(Family)
resources = st.builds(ResourceId, families, texts, texts)
# Whole microseconds of up to some weeks: what the age's float holds exactly enough to come back the same.
thresholds = st.builds(
    lambda microseconds, requests, size: SyncThresholds(microseconds / 1_000_000, requests, size),
    st.integers(0, 10**12),
    u64,
    u64,
)


def several(elements: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(elements, max_size=3).map(tuple)


released = st.builds(m.ReleasedMedium, resources, i32, i64, i64, booleans, maybe_groupings)
granted_to_write = st.builds(
    m.GrantedMedium, resources, texts, st.sampled_from(FsType), st.sampled_from(AddressType), u64
)
granted_to_read = st.builds(m.GrantedMedium, resources, texts, st.sampled_from(FsType), st.sampled_from(AddressType))

request_bodies: st.SearchStrategy[m.RequestBody] = st.one_of(
    st.builds(
        m.WriteAllocation,
        several(st.builds(m.WriteMedium, u64, several(texts), booleans)),
        families,
        booleans,
        maybe_texts,
        booleans,
        maybe_groupings,
    ),
    st.builds(m.ReadAllocation, u32, several(resources), st.sampled_from(ReadOperation)),
    st.builds(m.Release, several(released), kinds, booleans),
    st.builds(m.Format, resources, st.sampled_from(FsType), booleans, booleans),
    st.builds(m.Notify, resources, st.sampled_from(NotifyOperation), booleans),
    st.builds(m.Ping, booleans),
    st.builds(m.Monitor, families),
    st.builds(m.Configure, st.sampled_from(ConfigureOperation), texts),
    st.builds(m.Stat, maybe_texts, maybe_texts, maybe_texts),
    st.builds(m.Status),
    st.builds(m.Revoke, several(texts), maybe_texts, st.none() | u64, st.none() | i32),
)
requests = st.builds(m.Request, u32, request_bodies, st.none() | i64, st.none() | i64)

response_bodies: st.SearchStrategy[m.ResponseBody] = st.one_of(
    st.builds(m.WriteGranted, several(granted_to_write), st.none() | thresholds),
    st.builds(m.ReadGranted, several(granted_to_read)),
    st.builds(m.Released, several(resources), kinds, booleans),
    st.builds(m.Formatted, resources),
    st.builds(m.Notified, resources),
    st.builds(m.Failed, i32, kinds),
    st.builds(m.Pong, booleans),
    st.builds(m.Monitored, texts),
    st.builds(m.Configured, maybe_texts),
    st.builds(m.Statistics, texts),
    st.builds(m.StatusReport, texts),
    st.builds(m.Revoked, texts),
)
responses = st.builds(m.Response, u32, response_bodies)
