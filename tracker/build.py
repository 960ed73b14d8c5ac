"""Makes the script that Footfall serves, `/script.js`, of the module `footfall.js`; `make tracker` runs this.

The script is checked in, so that neither an install nor a start needs a minifier.
"""

import re
import sys
from pathlib import Path

import minify

SOURCE = Path(__file__).with_name("footfall.js")
SCRIPT = Path(__file__).parents[1] / "src" / "footfall" / "collector" / "script.js"


def built() -> str:
    """The script: the module without its exports, in a function of its own, with short names.

    One word in place of two compresses better, so `let` stands for `const`.
    """
    module = re.sub(r"^export ", "", SOURCE.read_text("utf-8"), flags=re.MULTILINE)
    module = re.sub(r"\bconst\b", "let", module)
    minify.config({"js-version": 2018})
    script: str = minify.string("application/javascript", f"(()=>{{{module}\nstartFromTag()}})()")
    return script + "\n"


if __name__ == "__main__":
    SCRIPT.write_text(built(), "utf-8")
    sys.stdout.write(f"{SCRIPT}: {len(built())} bytes\n")
