"""A picture on a terminal that is drawn anew in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

REFRESHES_PER_SECOND = 4


class LiveView(ABC):
    """What is live while its block lasts, if `wanted`: people look at it on a terminal.

    `screen`: on a screen of its own, drawn when there is news; what stood on the terminal comes
    back. Otherwise it stands below what was printed, several times a second, for clocks run in it;
    when it is over it stays, or goes without a trace (`transient`).
    """

    def __init__(
        self, console: Console, *, wanted: bool, screen: bool = False, transient: bool = False
    ) -> None:
        self._console = console
        self._wanted = wanted and console.is_terminal
        self._screen = screen
        self._transient = transient
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._wanted:
            self._live = Live(
                console=self._console,
                get_renderable=self._view,
                auto_refresh=not self._screen,
                refresh_per_second=REFRESHES_PER_SECOND,
                screen=self._screen,
                transient=self._transient,
                # Standard output may be a file; what is written there is none of the view's.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def is_live(self) -> bool:
        """Whether there is a picture now."""
        return self._live is not None

    def stop(self) -> None:
        """Ends the picture; there may be none."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _refresh(self) -> None:
        """There is news."""
        if self._live is not None:
            self._live.refresh()

    @abstractmethod
    def _view(self) -> RenderableType:
        """The picture of now."""
