"""The console that panels are drawn on: text from a run is shown as it stands."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from pipelines.see.formatting import escape_controls

__all__ = ["PlainConsole", "make_plain_text"]


class PlainConsole(Console):
    """A console that takes no text for markup and passes no control character on.

    All strings that are printed, in the cells of tables too, go through `render_str`.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string; the styles are those of the caller, not of the string."""
        options |= {"markup": False, "emoji": False}
        lines = (escape_controls(line) for line in text.split("\n"))
        return super().render_str("\n".join(lines), **options)


def make_plain_text(text: str) -> Text:
    """The title of a panel, which rich does not pass to `render_str`."""
    return Text(escape_controls(text))
