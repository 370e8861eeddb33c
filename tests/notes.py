"""A progress that keeps what is worth a line."""

from pipeline.runtime.progress import SilentProgress


class Notes(SilentProgress):
    """lines: of `note`, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)
