"""What a volunteer decides, as values: `PeerState.handle(event, now) -> [Action]`. Nothing here does anything.

Reading order: `ids`, `events` (what can happen), `actions` (what can be asked of the world, and which event answers),
`ports` (who performs them), `lending` (how much of this computer, when, and to which campaign), `held` (the lifecycle
of an assignment and of a check, as tables), `backoff`, `figures`, `facts` (all that is known), `rules` (what to do
next, in order of priority), `reactions` and `replies` (what an event means), `machine` (the loop over them, invariants,
stories).
"""

from peer.state.facts import PeerSettings, StoryEntry
from peer.state.held import ImpossibleEvent, Phase
from peer.state.ids import AssignmentId, CheckId
from peer.state.machine import PeerState

__all__ = ["AssignmentId", "CheckId", "ImpossibleEvent", "PeerSettings", "PeerState", "Phase", "StoryEntry"]
