"""What every checker raises."""


class Violation(Exception):
    """A promise was broken. `kind` is one stable word or two, the text is for people."""

    def __init__(self, kind: str, text: str, assignment: int | None = None):
        super().__init__(f"{kind}: {text}")
        self.kind, self.assignment = kind, assignment
