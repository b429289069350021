from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Family(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TAPE: _ClassVar[Family]
    DIR: _ClassVar[Family]
    RADOS_POOL: _ClassVar[Family]

class FsType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POSIX: _ClassVar[FsType]
    LTFS: _ClassVar[FsType]
    RADOS: _ClassVar[FsType]

class AddressType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PATH: _ClassVar[AddressType]
    HASH1: _ClassVar[AddressType]
    OPAQUE: _ClassVar[AddressType]

class ReadOperation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    READ: _ClassVar[ReadOperation]
    DELETE: _ClassVar[ReadOperation]

class NotifyOperation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_ADD: _ClassVar[NotifyOperation]
    DEVICE_LOCK: _ClassVar[NotifyOperation]
    DEVICE_UNLOCK: _ClassVar[NotifyOperation]
    MEDIA_UPDATE: _ClassVar[NotifyOperation]

class ConfigureOperation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SET: _ClassVar[ConfigureOperation]
    GET: _ClassVar[ConfigureOperation]

class RequestKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_WRITE: _ClassVar[RequestKind]
    KIND_READ: _ClassVar[RequestKind]
    KIND_RELEASE_READ: _ClassVar[RequestKind]
    KIND_RELEASE_WRITE: _ClassVar[RequestKind]
    KIND_FORMAT: _ClassVar[RequestKind]
    KIND_NOTIFY: _ClassVar[RequestKind]
    KIND_MONITOR: _ClassVar[RequestKind]
    KIND_CONFIGURE: _ClassVar[RequestKind]
    KIND_STAT: _ClassVar[RequestKind]
TAPE: Family
DIR: Family
RADOS_POOL: Family
POSIX: FsType
LTFS: FsType
RADOS: FsType
PATH: AddressType
HASH1: AddressType
OPAQUE: AddressType
READ: ReadOperation
DELETE: ReadOperation
DEVICE_ADD: NotifyOperation
DEVICE_LOCK: NotifyOperation
DEVICE_UNLOCK: NotifyOperation
MEDIA_UPDATE: NotifyOperation
SET: ConfigureOperation
GET: ConfigureOperation
KIND_WRITE: RequestKind
KIND_READ: RequestKind
KIND_RELEASE_READ: RequestKind
KIND_RELEASE_WRITE: RequestKind
KIND_FORMAT: RequestKind
KIND_NOTIFY: RequestKind
KIND_MONITOR: RequestKind
KIND_CONFIGURE: RequestKind
KIND_STAT: RequestKind

class ResourceId(_message.Message):
    __slots__ = ("family", "name", "library")
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_FIELD_NUMBER: _ClassVar[int]
    family: Family
    name: str
    library: str
    def __init__(self, family: _Optional[_Union[Family, str]] = ..., name: _Optional[str] = ..., library: _Optional[str] = ...) -> None: ...

class SyncThreshold(_message.Message):
    __slots__ = ("requests", "bytes", "seconds", "nanoseconds")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    bytes: int
    seconds: int
    nanoseconds: int
    def __init__(self, requests: _Optional[int] = ..., bytes: _Optional[int] = ..., seconds: _Optional[int] = ..., nanoseconds: _Optional[int] = ...) -> None: ...

class WriteAllocation(_message.Message):
    __slots__ = ("media", "family", "prevent_duplicate", "library", "no_split", "grouping")
    class Medium(_message.Message):
        __slots__ = ("size", "tags", "empty_medium")
        SIZE_FIELD_NUMBER: _ClassVar[int]
        TAGS_FIELD_NUMBER: _ClassVar[int]
        EMPTY_MEDIUM_FIELD_NUMBER: _ClassVar[int]
        size: int
        tags: _containers.RepeatedScalarFieldContainer[str]
        empty_medium: bool
        def __init__(self, size: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., empty_medium: _Optional[bool] = ...) -> None: ...
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PREVENT_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_FIELD_NUMBER: _ClassVar[int]
    NO_SPLIT_FIELD_NUMBER: _ClassVar[int]
    GROUPING_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedCompositeFieldContainer[WriteAllocation.Medium]
    family: Family
    prevent_duplicate: bool
    library: str
    no_split: bool
    grouping: str
    def __init__(self, media: _Optional[_Iterable[_Union[WriteAllocation.Medium, _Mapping]]] = ..., family: _Optional[_Union[Family, str]] = ..., prevent_duplicate: _Optional[bool] = ..., library: _Optional[str] = ..., no_split: _Optional[bool] = ..., grouping: _Optional[str] = ...) -> None: ...

class ReadAllocation(_message.Message):
    __slots__ = ("n_required", "media", "operation")
    N_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    n_required: int
    media: _containers.RepeatedCompositeFieldContainer[ResourceId]
    operation: ReadOperation
    def __init__(self, n_required: _Optional[int] = ..., media: _Optional[_Iterable[_Union[ResourceId, _Mapping]]] = ..., operation: _Optional[_Union[ReadOperation, str]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("media", "partial", "kind")
    class Medium(_message.Message):
        __slots__ = ("medium", "rc", "size_written", "extents_written", "to_sync", "grouping")
        MEDIUM_FIELD_NUMBER: _ClassVar[int]
        RC_FIELD_NUMBER: _ClassVar[int]
        SIZE_WRITTEN_FIELD_NUMBER: _ClassVar[int]
        EXTENTS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
        TO_SYNC_FIELD_NUMBER: _ClassVar[int]
        GROUPING_FIELD_NUMBER: _ClassVar[int]
        medium: ResourceId
        rc: int
        size_written: int
        extents_written: int
        to_sync: bool
        grouping: str
        def __init__(self, medium: _Optional[_Union[ResourceId, _Mapping]] = ..., rc: _Optional[int] = ..., size_written: _Optional[int] = ..., extents_written: _Optional[int] = ..., to_sync: _Optional[bool] = ..., grouping: _Optional[str] = ...) -> None: ...
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedCompositeFieldContainer[Release.Medium]
    partial: bool
    kind: RequestKind
    def __init__(self, media: _Optional[_Iterable[_Union[Release.Medium, _Mapping]]] = ..., partial: _Optional[bool] = ..., kind: _Optional[_Union[RequestKind, str]] = ...) -> None: ...

class Format(_message.Message):
    __slots__ = ("medium", "fs_type", "unlock", "force")
    MEDIUM_FIELD_NUMBER: _ClassVar[int]
    FS_TYPE_FIELD_NUMBER: _ClassVar[int]
    UNLOCK_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    medium: ResourceId
    fs_type: FsType
    unlock: bool
    force: bool
    def __init__(self, medium: _Optional[_Union[ResourceId, _Mapping]] = ..., fs_type: _Optional[_Union[FsType, str]] = ..., unlock: _Optional[bool] = ..., force: _Optional[bool] = ...) -> None: ...

class Notify(_message.Message):
    __slots__ = ("resource", "operation", "wait")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    resource: ResourceId
    operation: NotifyOperation
    wait: bool
    def __init__(self, resource: _Optional[_Union[ResourceId, _Mapping]] = ..., operation: _Optional[_Union[NotifyOperation, str]] = ..., wait: _Optional[bool] = ...) -> None: ...

class Monitor(_message.Message):
    __slots__ = ("family",)
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    family: Family
    def __init__(self, family: _Optional[_Union[Family, str]] = ...) -> None: ...

class Configure(_message.Message):
    __slots__ = ("operation", "configuration")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    operation: ConfigureOperation
    configuration: str
    def __init__(self, operation: _Optional[_Union[ConfigureOperation, str]] = ..., configuration: _Optional[str] = ...) -> None: ...

class Stat(_message.Message):
    __slots__ = ("ns", "name", "tags")
    NS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ns: str
    name: str
    tags: str
    def __init__(self, ns: _Optional[str] = ..., name: _Optional[str] = ..., tags: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Revoke(_message.Message):
    __slots__ = ("media", "library", "client", "pid")
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedScalarFieldContainer[str]
    library: str
    client: int
    pid: int
    def __init__(self, media: _Optional[_Iterable[str]] = ..., library: _Optional[str] = ..., client: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "qos", "priority", "write", "read", "release", "format", "notify", "ping", "monitor", "configure", "stat", "status", "revoke")
    ID_FIELD_NUMBER: _ClassVar[int]
    QOS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    NOTIFY_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    CONFIGURE_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    id: int
    qos: int
    priority: int
    write: WriteAllocation
    read: ReadAllocation
    release: Release
    format: Format
    notify: Notify
    ping: bool
    monitor: Monitor
    configure: Configure
    stat: Stat
    status: Status
    revoke: Revoke
    def __init__(self, id: _Optional[int] = ..., qos: _Optional[int] = ..., priority: _Optional[int] = ..., write: _Optional[_Union[WriteAllocation, _Mapping]] = ..., read: _Optional[_Union[ReadAllocation, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., format: _Optional[_Union[Format, _Mapping]] = ..., notify: _Optional[_Union[Notify, _Mapping]] = ..., ping: _Optional[bool] = ..., monitor: _Optional[_Union[Monitor, _Mapping]] = ..., configure: _Optional[_Union[Configure, _Mapping]] = ..., stat: _Optional[_Union[Stat, _Mapping]] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., revoke: _Optional[_Union[Revoke, _Mapping]] = ...) -> None: ...

class WriteGranted(_message.Message):
    __slots__ = ("media", "threshold")
    class Medium(_message.Message):
        __slots__ = ("medium", "avail_size", "root", "fs_type", "address_type")
        MEDIUM_FIELD_NUMBER: _ClassVar[int]
        AVAIL_SIZE_FIELD_NUMBER: _ClassVar[int]
        ROOT_FIELD_NUMBER: _ClassVar[int]
        FS_TYPE_FIELD_NUMBER: _ClassVar[int]
        ADDRESS_TYPE_FIELD_NUMBER: _ClassVar[int]
        medium: ResourceId
        avail_size: int
        root: str
        fs_type: FsType
        address_type: AddressType
        def __init__(self, medium: _Optional[_Union[ResourceId, _Mapping]] = ..., avail_size: _Optional[int] = ..., root: _Optional[str] = ..., fs_type: _Optional[_Union[FsType, str]] = ..., address_type: _Optional[_Union[AddressType, str]] = ...) -> None: ...
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedCompositeFieldContainer[WriteGranted.Medium]
    threshold: SyncThreshold
    def __init__(self, media: _Optional[_Iterable[_Union[WriteGranted.Medium, _Mapping]]] = ..., threshold: _Optional[_Union[SyncThreshold, _Mapping]] = ...) -> None: ...

class ReadGranted(_message.Message):
    __slots__ = ("media",)
    class Medium(_message.Message):
        __slots__ = ("medium", "root", "fs_type", "address_type")
        MEDIUM_FIELD_NUMBER: _ClassVar[int]
        ROOT_FIELD_NUMBER: _ClassVar[int]
        FS_TYPE_FIELD_NUMBER: _ClassVar[int]
        ADDRESS_TYPE_FIELD_NUMBER: _ClassVar[int]
        medium: ResourceId
        root: str
        fs_type: FsType
        address_type: AddressType
        def __init__(self, medium: _Optional[_Union[ResourceId, _Mapping]] = ..., root: _Optional[str] = ..., fs_type: _Optional[_Union[FsType, str]] = ..., address_type: _Optional[_Union[AddressType, str]] = ...) -> None: ...
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedCompositeFieldContainer[ReadGranted.Medium]
    def __init__(self, media: _Optional[_Iterable[_Union[ReadGranted.Medium, _Mapping]]] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("media", "partial", "kind")
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedCompositeFieldContainer[ResourceId]
    partial: bool
    kind: RequestKind
    def __init__(self, media: _Optional[_Iterable[_Union[ResourceId, _Mapping]]] = ..., partial: _Optional[bool] = ..., kind: _Optional[_Union[RequestKind, str]] = ...) -> None: ...

class Formatted(_message.Message):
    __slots__ = ("medium",)
    MEDIUM_FIELD_NUMBER: _ClassVar[int]
    medium: ResourceId
    def __init__(self, medium: _Optional[_Union[ResourceId, _Mapping]] = ...) -> None: ...

class Notified(_message.Message):
    __slots__ = ("resource",)
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    resource: ResourceId
    def __init__(self, resource: _Optional[_Union[ResourceId, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("rc", "kind")
    RC_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    rc: int
    kind: RequestKind
    def __init__(self, rc: _Optional[int] = ..., kind: _Optional[_Union[RequestKind, str]] = ...) -> None: ...

class Monitored(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: str
    def __init__(self, status: _Optional[str] = ...) -> None: ...

class Configured(_message.Message):
    __slots__ = ("configuration",)
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    configuration: str
    def __init__(self, configuration: _Optional[str] = ...) -> None: ...

class Statistics(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: str
    def __init__(self, stats: _Optional[str] = ...) -> None: ...

class StatusReport(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: str
    def __init__(self, status: _Optional[str] = ...) -> None: ...

class Revoked(_message.Message):
    __slots__ = ("revoked",)
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    revoked: str
    def __init__(self, revoked: _Optional[str] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("request_id", "write", "read", "release", "format", "notify", "error", "ping", "monitor", "configure", "stat", "status", "revoke")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    NOTIFY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    CONFIGURE_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    write: WriteGranted
    read: ReadGranted
    release: Released
    format: Formatted
    notify: Notified
    error: Error
    ping: bool
    monitor: Monitored
    configure: Configured
    stat: Statistics
    status: StatusReport
    revoke: Revoked
    def __init__(self, request_id: _Optional[int] = ..., write: _Optional[_Union[WriteGranted, _Mapping]] = ..., read: _Optional[_Union[ReadGranted, _Mapping]] = ..., release: _Optional[_Union[Released, _Mapping]] = ..., format: _Optional[_Union[Formatted, _Mapping]] = ..., notify: _Optional[_Union[Notified, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., ping: _Optional[bool] = ..., monitor: _Optional[_Union[Monitored, _Mapping]] = ..., configure: _Optional[_Union[Configured, _Mapping]] = ..., stat: _Optional[_Union[Statistics, _Mapping]] = ..., status: _Optional[_Union[StatusReport, _Mapping]] = ..., revoke: _Optional[_Union[Revoked, _Mapping]] = ...) -> None: ...
