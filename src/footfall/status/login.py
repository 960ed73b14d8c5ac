"""The page that asks a person for the token, and the one that says why there is none to ask for.

A browser gets it in place of the page that it asked for.
"""

import base64
import hashlib
from typing import Final

PATH: Final = "/session"
"""Where the form is sent to."""
CONTENT_TYPE: Final = "text/html; charset=utf-8"

_STYLE: Final = """
:root{color-scheme:light dark}
body{margin:0;min-height:100vh;display:grid;place-items:center;font:16px/1.5 system-ui,sans-serif;
background:light-dark(#f6f7f6,#101413);color:light-dark(#14201d,#e9efed)}
form,main{display:grid;gap:14px;width:min(360px,90vw);padding:32px;border-radius:14px;box-sizing:border-box;
background:light-dark(#fff,#181d1c);border:1px solid light-dark(#e3e7e5,#2a312f)}
h1{font-size:20px;margin:0}p{margin:0;color:light-dark(#566460,#9fada9);font-size:14px}
.wrong{color:light-dark(#b3261e,#ff9a8f)}label{display:grid;gap:6px}
input,button{font:inherit;padding:9px 12px;border-radius:8px;border:1px solid light-dark(#8b9793,#64726e)}
input{background:light-dark(#f6f7f6,#101413);color:inherit}
button{border:0;background:light-dark(#0f766e,#4fd1bd);color:light-dark(#fff,#06201c);font-weight:600;cursor:pointer}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
}


def page(*, was_wrong: bool = False) -> bytes:
    """The page that asks; `was_wrong` says that a token was tried, and was not the right one."""
    wrong = '<p class="wrong" role="alert">That is not the token in reporting.token.</p>' if was_wrong else ""
    return _page(
        "Log in",
        f"""<form method="post" action="{PATH}"><h1>Footfall</h1>
<p>These reports need the token that stands in the settings as <code>reporting.token</code>.</p>{wrong}
<label>Token <input type="password" name="token" required autofocus autocomplete="current-password"></label>
<button>Log in</button></form>""",
    )


def closed_page() -> bytes:
    """The page for somebody from elsewhere, where no token is set."""
    return _page(
        "Not open",
        """<main><h1>Footfall</h1><p>No token is set. So these pages answer only the user that runs Footfall, or root,
on the same machine and through no proxy.</p><p>To read them from here, set <code>reporting.token</code> to a long
random text, start Footfall again, and log in. Or open <code>http://localhost:8000/</code> after
<code>ssh -L 8000:localhost:8000 HOST</code> as that user.</p></main>""",
    )


def _page(title: str, body: str) -> bytes:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Footfall</title><style>{_STYLE}</style></head>
<body>{body}</body></html>
""".encode()
