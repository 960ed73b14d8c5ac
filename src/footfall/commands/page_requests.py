"""Which requests of an access log asked for a page: `footfall import --only-pages`."""

import re
from typing import Final

from footfall.commands.access_log import LogLine

_PAGE_EXTENSIONS: Final = {"asp", "aspx", "cfm", "cgi", "htm", "html", "jsp", "jspx", "md", "php", "shtml", "xhtml"}
_EXTENSION: Final = re.compile(r"\.([0-9A-Za-z]*[A-Za-z][0-9A-Za-z]*)\Z")
"""The end of a path that names a format; digits alone do not, as in `/releases/1.2`."""

_NOT_A_GET: Final = "not a GET"
_NOT_SUCCESSFUL: Final = "not successful"
_NOT_A_DOCUMENT: Final = "not a document"
REASONS: Final = frozenset({_NOT_A_GET, _NOT_SUCCESSFUL, _NOT_A_DOCUMENT})


def why_no_page(request: LogLine) -> str | None:
    """Why a request was not a successful `GET` of a document, as the summary has it; None where it was."""
    if request.method != "GET":
        return _NOT_A_GET
    if not (200 <= request.status < 300 or request.status == 304):
        return _NOT_SUCCESSFUL
    extension = _EXTENSION.search(request.path)
    if extension and extension[1].lower() not in _PAGE_EXTENSIONS:
        return _NOT_A_DOCUMENT
    return None
