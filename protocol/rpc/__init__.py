"""The organizer's gRPC service.

Reading order: `coordinator.proto`, the code generated from it (scripts/generate), `invite` (an address as a code with a
checksum), `wire` (messages to protobuf and back, sizes bounded), `channel` (TLS, pinned to the organizer's key),
`versions` (which understand each other).
"""
