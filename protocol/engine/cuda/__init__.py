"""The same bits on a card.

Reading order: `nvrtc` (NVIDIA's compiler), `driver` (finding a card), `card_queue` (what one card does, launch by
launch), `engine` (divides networks among cards).
"""
