from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LookUp(_message.Message):
    __slots__ = ("serial",)
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    serial: str
    def __init__(self, serial: _Optional[str] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("serial", "label")
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    serial: str
    label: str
    def __init__(self, serial: _Optional[str] = ..., label: _Optional[str] = ...) -> None: ...

class Unload(_message.Message):
    __slots__ = ("serial", "label")
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    serial: str
    label: str
    def __init__(self, serial: _Optional[str] = ..., label: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("refresh",)
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    refresh: bool
    def __init__(self, refresh: _Optional[bool] = ...) -> None: ...

class Stat(_message.Message):
    __slots__ = ("ns", "name", "tags")
    NS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ns: str
    name: str
    tags: str
    def __init__(self, ns: _Optional[str] = ..., name: _Optional[str] = ..., tags: _Optional[str] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "ping", "look_up", "load", "unload", "status", "refresh", "stat")
    ID_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    LOOK_UP_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    UNLOAD_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    id: int
    ping: bool
    look_up: LookUp
    load: Load
    unload: Unload
    status: Status
    refresh: bool
    stat: Stat
    def __init__(self, id: _Optional[int] = ..., ping: _Optional[bool] = ..., look_up: _Optional[_Union[LookUp, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ..., unload: _Optional[_Union[Unload, _Mapping]] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., refresh: _Optional[bool] = ..., stat: _Optional[_Union[Stat, _Mapping]] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("library_is_up",)
    LIBRARY_IS_UP_FIELD_NUMBER: _ClassVar[int]
    library_is_up: bool
    def __init__(self, library_is_up: _Optional[bool] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("address", "first_address", "label")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    address: int
    first_address: int
    label: str
    def __init__(self, address: _Optional[int] = ..., first_address: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("rc", "message")
    RC_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    rc: int
    message: str
    def __init__(self, rc: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Loaded(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class Unloaded(_message.Message):
    __slots__ = ("label", "address", "message")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    label: str
    address: int
    message: str
    def __init__(self, label: _Optional[str] = ..., address: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Elements(_message.Message):
    __slots__ = ("elements", "message")
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    elements: str
    message: str
    def __init__(self, elements: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Statistics(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: str
    def __init__(self, stats: _Optional[str] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("request_id", "ping", "look_up", "error", "load", "unload", "status", "refresh", "stat")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    LOOK_UP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    UNLOAD_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    ping: Pong
    look_up: Found
    error: Error
    load: Loaded
    unload: Unloaded
    status: Elements
    refresh: bool
    stat: Statistics
    def __init__(self, request_id: _Optional[int] = ..., ping: _Optional[_Union[Pong, _Mapping]] = ..., look_up: _Optional[_Union[Found, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., load: _Optional[_Union[Loaded, _Mapping]] = ..., unload: _Optional[_Union[Unloaded, _Mapping]] = ..., status: _Optional[_Union[Elements, _Mapping]] = ..., refresh: _Optional[bool] = ..., stat: _Optional[_Union[Statistics, _Mapping]] = ...) -> None: ...
