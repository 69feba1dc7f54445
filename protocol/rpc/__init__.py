"""The organizer's gRPC service.

Reading order: `coordinator.proto`, the code generated from it (scripts/generate), `wire` (messages to protobuf and
back, sizes bounded), `channel` (TLS, pinned to the organizer's key).
"""
