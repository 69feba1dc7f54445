"""The same bits on a card: `nvrtc` (NVIDIA's compiler), `driver` (finding a card), `engine` (queues networks on it)."""
