"""The pages' templates: HTML with holes, in which every value is escaped."""

from functools import cache

import jinja2

from footfall import __version__
from footfall.web.pages.assets import address_of


def render(name: str, **context: object) -> str:
    """Fill a template."""
    return _environment().get_template(name).render(context)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("footfall.web.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
    )
    environment.globals.update(here="", asset=address_of, version=__version__)
    return environment
