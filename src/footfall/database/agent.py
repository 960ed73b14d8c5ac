"""What a user agent tells: browser, operating system, device.

Families and versions are those of ua-parser (https://github.com/ua-parser/uap-core). A bot is what ua-parser calls a
`Spider`, which then has the name of a browser, or what is in the list of Crawler-Detect
(https://github.com/JayBizzle/Crawler-Detect), with the word there as its name. Both lists are matched in time linear
in the user agent's length: what it is is a stranger's choice.
"""

import re
from functools import cache, lru_cache
from typing import Final, NamedTuple

import ua_parser
from crawlerdetect import providers
from ua_parser.matchers import UserAgentMatcher
from ua_parser.regex import Resolver

from footfall.entry import MAX_USER_AGENT_BYTES

_DESKTOP_SYSTEMS: Final = frozenset(
    {
        "Arch Linux",
        "CentOS",
        "Chrome OS",
        "Debian",
        "Fedora",
        "FreeBSD",
        "Gentoo",
        "Kubuntu",
        "Linux",
        "Linux Mint",
        "Lubuntu",
        "Mac OS",
        "Mac OS X",
        "Mageia",
        "Mandriva",
        "NetBSD",
        "OpenBSD",
        "PCLinuxOS",
        "Red Hat",
        "Slackware",
        "Solaris",
        "SUSE",
        "Ubuntu",
        "Windows",
        "openSUSE",
    }
)
_MOBILE_SYSTEMS: Final = frozenset(
    {
        "Android",
        "Bada",
        "BlackBerry OS",
        "Firefox OS",
        "HarmonyOS",
        "KaiOS",
        "MeeGo",
        "Nokia Series 30 Plus",
        "Nokia Series 40",
        "Sailfish",
        "Symbian OS",
        "Windows Mobile",
        "Windows Phone",
        "iOS",
    }
)
_MOBILE_DEVICES: Final = frozenset({"Generic Feature Phone", "Generic Smartphone"})
_TABLETS: Final = frozenset({"Generic Tablet", "Kindle", "iPad"})
_BROWSERS: Final = frozenset({"Chrome", "Chrome Mobile", "Edge", "Firefox", "IE", "Mobile Safari", "Opera", "Safari"})
"""What some bots say that they are, and what is no name for a bot."""
_NAMELESS_BOT: Final = "Bot"


_LOOKS_AROUND: Final = ("(?!", "(?=", "(?<")
"""What linear time is not to be had for; one or two of the list's patterns have it."""
_WORD: Final = re.compile(r"[\w.!-]*")
_LIBRARIES: Final = re.compile(
    r"(?:aiohttp|Apache-HttpClient|axios|Bun|curl|Dart|Deno|Faraday|Go-http-client|got|GuzzleHttp|HTTPie|hyper|insomnia"
    r"|Java|libcurl|libwww-perl|LWP|node|node-fetch|okhttp|PHP|PostmanRuntime|PycURL|Python|python-httpx"
    r"|python-requests|Python-urllib|python-urllib3|reqwest|RestSharp|Ruby|rest-client|Symfony|undici|ureq|Wget)\b",
    re.IGNORECASE,
)
"""What programs name themselves that use an HTTP library and say nothing else."""


class Agent(NamedTuple):
    """What is known of who sent a request; None for what is not.

    Attributes:
        browser: its family.
        browser_version: its major version.
        os: the family of the operating system.
        os_version: its major version.
        device: `desktop`, `mobile`, `tablet` or `bot`.
        bot: the name of a bot.
        text: the user agent itself.
    """

    browser: str | None
    browser_version: str | None
    os: str | None
    os_version: str | None
    device: str | None
    bot: str | None
    text: str | None


@lru_cache(maxsize=8_192)
def agent_of(user_agent: bytes, *, reports: bool = False) -> Agent:
    """What the header tells; only its first `MAX_USER_AGENT_BYTES` count.

    Args:
        user_agent: as it was sent.
        reports: it came with an event. An HTTP library that asks for the image is a bot. One that reports an event is
            a program of the site's owner.
    """
    text = user_agent[:MAX_USER_AGENT_BYTES].decode(errors="replace")
    parsed = ua_parser.parse(text)
    browser, browser_version = (
        (parsed.user_agent.family, parsed.user_agent.major) if parsed.user_agent else (None, None)
    )
    system, os_version = (parsed.os.family, parsed.os.major) if parsed.os else (None, None)
    device = _device(text, system, parsed.device)
    bot = None if reports and is_library(text) else _bot(text, browser, parsed.device)
    if bot:
        device = "bot"
    return Agent(browser, browser_version, system, os_version, device, bot, text or None)


def is_library(user_agent: str) -> bool:
    """Whether a program sent it that uses an HTTP library, and says nothing else of itself."""
    return _LIBRARIES.match(user_agent) is not None


@cache
def _lists() -> tuple[re.Pattern[str], ua_parser.Parser]:
    """What browsers say, and the bots. Bots say what browsers do, too, and their names are looked for in the rest.

    They are compiled when the first user agent is read: that takes 0.2 s, and most processes read none.
    """
    patterns = (pattern for pattern in providers.crawlers.data if not any(sign in pattern for sign in _LOOKS_AROUND))
    bots = ua_parser.Parser(Resolver(([UserAgentMatcher(f"(?i)({pattern})") for pattern in patterns], [], [])))
    return re.compile("|".join(providers.exclusions.data), re.IGNORECASE), bots


def _bot(user_agent: str, browser: str | None, device: ua_parser.Device | None) -> str | None:
    """The name of a bot."""
    is_spider = device is not None and device.family == "Spider"
    if is_spider and browser not in _BROWSERS:
        return browser or _NAMELESS_BOT
    of_browsers, bots = _lists()
    rest = of_browsers.sub("", user_agent).strip()
    found = bots.parse_user_agent(rest)
    if found is not None:
        return _whole_word(rest, found.family)
    return _NAMELESS_BOT if is_spider else None


def _whole_word(text: str, part: str) -> str:
    """The word that a part of a text is in: `libwww-perl` for `libwww`."""
    start = text.find(part)
    before, after = text[:start], text[start + len(part) :]
    word = _word_at_start(before[::-1])[::-1] + part + _word_at_start(after)
    return word.strip(" /").partition("/")[0] or _NAMELESS_BOT


def _word_at_start(text: str) -> str:
    found = _WORD.match(text)
    return found[0] if found else ""


def _device(user_agent: str, system: str | None, device: ua_parser.Device | None) -> str | None:
    family = device.family if device else None
    # Android's convention: a phone's browser says "Mobile", a tablet's does not.
    if family in _TABLETS or (system == "Android" and "Mobile" not in user_agent):
        return "tablet"
    if system in _MOBILE_SYSTEMS or family in _MOBILE_DEVICES:
        return "mobile"
    if system in _DESKTOP_SYSTEMS:
        return "desktop"
    return None
