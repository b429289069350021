"""What the devices of a family can give in one pass of placement."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.volume import Volume
from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.scheduling.placement import Offer, VolumeOffer


def offers_of(
    devices: Iterable[DeviceTask], volumes: Iterable[Volume], located: Collection[ResourceId], now: float
) -> list[Offer]:
    """One offer for each device that has a medium, in the order of `devices`; `located` media are kept for readers."""
    shared = {id(volume): VolumeOffer(volume.measured, volume.available) for volume in volumes}
    offers = []
    for device in devices:
        state, medium = device.state, device.medium
        if medium is None:
            continue
        own = VolumeOffer(state.volume.measured, state.volume.available)
        offers.append(
            Offer(
                device=device.id,
                medium=medium,
                volume=shared.setdefault(id(state.volume), own),
                serving=state.serving,
                idle=state.idle,
                slots=state.free_slots(now),
                load=len(state.grants),
                mixes=state.mix_reads_and_writes,
                kinds=frozenset(kind for kind in (RequestKind.READ, RequestKind.WRITE) if state.accepts(kind)),
                formatting=state.formatting is not None,
                located=medium.id in located,
                refusal=state.withheld,
            )
        )
    return offers
