from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Signed(_message.Message):
    __slots__ = ("kind", "signer", "payload", "signature")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    signer: str
    payload: bytes
    signature: bytes
    def __init__(self, kind: _Optional[str] = ..., signer: _Optional[str] = ..., payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Visit(_message.Message):
    __slots__ = ("heartbeat", "answers", "states")
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    heartbeat: Signed
    answers: _containers.RepeatedCompositeFieldContainer[Signed]
    states: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, heartbeat: _Optional[_Union[Signed, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[Signed, _Mapping]]] = ..., states: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Visited(_message.Message):
    __slots__ = ("inbox", "refused", "refused_states")
    INBOX_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_STATES_FIELD_NUMBER: _ClassVar[int]
    inbox: Signed
    refused: _containers.RepeatedScalarFieldContainer[str]
    refused_states: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, inbox: _Optional[_Union[Signed, _Mapping]] = ..., refused: _Optional[_Iterable[str]] = ..., refused_states: _Optional[_Iterable[str]] = ...) -> None: ...

class Submission(_message.Message):
    __slots__ = ("result", "trace", "weights")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    result: Signed
    trace: bytes
    weights: bytes
    def __init__(self, result: _Optional[_Union[Signed, _Mapping]] = ..., trace: _Optional[bytes] = ..., weights: _Optional[bytes] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("version", "nonce", "host")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    version: str
    nonce: bytes
    host: str
    def __init__(self, version: _Optional[str] = ..., nonce: _Optional[bytes] = ..., host: _Optional[str] = ...) -> None: ...

class CampaignRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class CampaignReply(_message.Message):
    __slots__ = ("digest", "campaign", "manifest", "state")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    campaign: bytes
    manifest: Signed
    state: str
    def __init__(self, digest: _Optional[str] = ..., campaign: _Optional[bytes] = ..., manifest: _Optional[_Union[Signed, _Mapping]] = ..., state: _Optional[str] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("upload", "data")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    upload: Signed
    data: bytes
    def __init__(self, upload: _Optional[_Union[Signed, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("result", "part", "slot")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    result: bytes
    part: str
    slot: int
    def __init__(self, result: _Optional[bytes] = ..., part: _Optional[str] = ..., slot: _Optional[int] = ...) -> None: ...

class DataRequest(_message.Message):
    __slots__ = ("digest", "offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: str
    offset: int
    def __init__(self, digest: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class ZooFileRequest(_message.Message):
    __slots__ = ("name", "offset")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    name: str
    offset: int
    def __init__(self, name: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("watch",)
    WATCH_FIELD_NUMBER: _ClassVar[int]
    watch: bool
    def __init__(self, watch: _Optional[bool] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...
