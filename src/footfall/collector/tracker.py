"""The tracker, `GET /script.js`: counts the views of the page that loads it, and what happens there.

`script.js` beside this file is made by `make tracker` of `tracker/footfall.js`, which says what it does.
"""

from pathlib import Path
from typing import Final

from footfall.collector.static_file import StaticFile

PATH: Final = "/script.js"
_SCRIPT: Final = Path(__file__).with_name("script.js")
_DAY_S: Final = 86_400


def tracker() -> StaticFile:
    """The script; a browser asks once a day whether there is a newer one."""
    return StaticFile(PATH.encode(), _SCRIPT.read_bytes(), "text/javascript; charset=utf-8", max_age_s=_DAY_S)
