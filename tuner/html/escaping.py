"""Texts that come from users, files and errors, made harmless in HTML and inside a script element."""

from __future__ import annotations

import html
import json
import re

_IN_SCRIPT = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
_STRONG = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"`(.+?)`")


def escape(text: str) -> str:
    """A text as content or as a quoted attribute of HTML."""
    return html.escape(text, quote=True)


def script_json(value: object) -> str:
    """JSON that a script element may hold: nothing in it ends the element or a line of JavaScript.

    Raises: ValueError for a number that is not finite, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_IN_SCRIPT)


def inline(text: str) -> str:
    """A line of the report in HTML: escaped, then its `**strong**` and `` `code` ``."""
    return _CODE.sub(r"<code>\1</code>", _STRONG.sub(r"<strong>\1</strong>", escape(text)))
