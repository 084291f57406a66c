"""Ctrl-C as a question of the program's, instead of an exception anywhere."""

import signal
from types import FrameType
from typing import Self


class Interrupts:
    """While entered, the first Ctrl-C only sets `pressed`; a second one raises KeyboardInterrupt.

    So one that comes while a transaction commits breaks nothing, and an impatient person still
    gets out. Only for the main thread.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> Self:
        self._former = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
