"""The keys of Phobos 3.3 that mean nothing to this daemon, and why.

They are written as their environment variables are, without PHOBOS_: the section in capitals, the key small.
"""

from __future__ import annotations

import re
from typing import Final

CONTROLLER: Final = "read by the tape library controller, not by the daemon"
TAPES: Final = "tape is not among the families served here"
POOLS: Final = "rados pools are not supported"
CLIENTS: Final = "read by clients, not by the daemon"
UNKNOWN: Final = "unknown, here and to Phobos 3.3; is it spelled right?"

_MEANINGLESS: Final = {
    CONTROLLER: (
        "SCSI_retry_(count|short|long)",
        "SCSI_max_element_status",
        "SCSI_(query|move|inquiry)_timeout_ms",
        "LIB_SCSI_sep_sn_query",
        "TLC_[^a-z]+_(listen_hostname|listen_port|listen_interface|lib_device|max_device_retry)",
    ),
    TAPES: (
        "TAPE_tape_full_threshold",
        "TAPE_MODEL_supported_list",
        "TAPE_TYPE_[^a-z]+_drive_rw",
        "DRIVE_TYPE_[^a-z]+_models",
        "IO_SCHED_TAPE_(read_algo|write_algo|format_algo|dispatch_algo|ordered_grouped_read)",
        "IO_SCHED_TAPE_fair_share_.+_(min|max)",
        "LTFS_cmd_(mount|umount|format|release)",
        "TLC_[^a-z]+_(hostname|port)",
    ),
    POOLS: (
        "RADOS_POOL_rados_pool_full_threshold",
        "RADOS_(user_id|ceph_conf_file)",
        "IO_SCHED_RADOS_POOL_(read_algo|write_algo|format_algo|dispatch_algo|ordered_grouped_read)",
        "IO_SCHED_RADOS_POOL_fair_share_.+_(min|max)",
    ),
    CLIENTS: (
        "IO_(io_block_size|fs_block_size)",
        "(STORE|COPY|LAYOUT_RAID1|LAYOUT_RAID4)_[^A-Z]+",
        "(PROFILE|HSM)_.+_[^A-Z]+",
    ),
    "directories are used where they are, nothing is mounted": ("LRS_mount_prefix",),
    "directories are read in the order of arrival": ("IO_SCHED_DIR_ordered_grouped_read",),
    "only the drives of tapes are shared out": ("IO_SCHED_DIR_fair_share_.+_(min|max)",),
}

_REASONS: Final = tuple(
    (re.compile(pattern), reason) for reason, patterns in _MEANINGLESS.items() for pattern in patterns
)


def why_meaningless(variable: str) -> str:
    """Why the key that `variable` sets has no effect, in the words of a warning; `UNKNOWN` if nobody knows it."""
    name = variable.removeprefix("PHOBOS_")
    return next((reason for pattern, reason in _REASONS if pattern.fullmatch(name)), UNKNOWN)
