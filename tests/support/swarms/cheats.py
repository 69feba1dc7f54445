"""Volunteers that lie, for tests: `python cheats.py KIND join ADDRESS ...` runs the real program with one part bent."""

import sys

import msgspec
import numpy as np

import peer.storage.bundle
import peer.storage.workspace
import peer.trainer.process
import protocol.engine.training
from protocol.canonical import sha256
from protocol.cli.main import main
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity


def flip_uploaded_weights() -> None:
    """Hands in a weight file that differs by one bit from what it committed to."""
    honest = peer.storage.bundle.Bundle.weights

    def weights(self) -> bytes:
        data = bytearray(honest(self))
        data[5] ^= 1
        return bytes(data)

    peer.storage.bundle.Bundle.weights = weights


def flip_committed_weights() -> None:
    """Changes one bit of one network before committing, so that commitment, trace and file agree with each other."""
    trace, weights = peer.storage.bundle.Bundle.trace, peer.storage.bundle.Bundle.weights

    def changed(data: bytes) -> bytes:
        flipped = bytearray(data)
        flipped[5] ^= 1
        return bytes(flipped)

    def bent_weights(self) -> bytes:
        size = 4 * self.assignment.recipe.parameter_count
        data = weights(self)
        return changed(data[:size]) + data[size:]

    def bent_trace(self, seed: int):
        leaves = trace(self, seed)
        if seed != self.assignment.seeds[0] or not leaves or not self._final(leaves[-1]):
            return leaves
        params = np.asarray(self._state(seed, len(leaves) - 1).params, "<f4").tobytes()
        return (*leaves[:-1], msgspec.structs.replace(leaves[-1], params_digest=sha256(changed(params))))

    peer.storage.bundle.Bundle.trace, peer.storage.bundle.Bundle.weights = bent_trace, bent_weights
    peer.storage.bundle.Bundle.is_sound = lambda self, seed: True  # an honest one notices, and trains it again


def skip_training() -> None:
    """Claims steps it never took: the state moves on with its parameters as they were."""

    def advance(engine, recipe, data, seeds, states):
        moved = [
            msgspec.structs.replace(s, step=s.step + protocol.engine.training.segment_length(recipe, s.step))
            for s in states
        ]
        return protocol.engine.training.look(engine, recipe, data, moved)

    import peer.trainer.worker

    peer.trainer.worker.advance = (
        advance  # spot checks of others go through protocol.trust.spot_check: those it does honestly
    )


def steal_identity() -> None:
    """Signs its results with its own key under another host's name."""
    victim = Identity.generate().host

    def bent_seal(identity, message):
        return msgspec.structs.replace(seal(identity, message), signer=victim)

    peer.storage.workspace.seal = bent_seal


KINDS = {
    "flip-upload": flip_uploaded_weights,
    "flip-commit": flip_committed_weights,
    "skip": skip_training,
    "steal": steal_identity,
}

if __name__ == "__main__":
    kind = sys.argv.pop(1)
    KINDS[kind]()
    if len(sys.argv) > 1 and sys.argv[1] == "--worker":
        del sys.argv[1]
        import peer.trainer.worker

        peer.trainer.worker.main()
    else:
        popen = peer.trainer.process.subprocess.Popen

        class BentPopen(popen):
            """The training process is bent in the same way; all others are as they were."""

            def __init__(self, command, *arguments, **options):
                if "peer.trainer.worker" in command:
                    rest = command[command.index("peer.trainer.worker") + 1 :]
                    command = [sys.executable, __file__, kind, "--worker", *rest]
                super().__init__(command, *arguments, **options)

        peer.trainer.process.subprocess.Popen = BentPopen
        main()
