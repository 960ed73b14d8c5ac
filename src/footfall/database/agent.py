"""What a user agent tells: browser, operating system, device.

The families and versions are those of ua-parser (https://github.com/ua-parser/uap-core). A bot's family in its list is
`Spider`, and what it has as its browser is the bot's name.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import ua_parser

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
_NAMELESS_BOT: Final = "Bot"


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
def agent_of(user_agent: bytes) -> Agent:
    """What the header tells; only its first `MAX_USER_AGENT_BYTES` count."""
    text = user_agent[:MAX_USER_AGENT_BYTES].decode(errors="replace")
    parsed = ua_parser.parse(text)
    browser, browser_version = (
        (parsed.user_agent.family, parsed.user_agent.major) if parsed.user_agent else (None, None)
    )
    system, os_version = (parsed.os.family, parsed.os.major) if parsed.os else (None, None)
    device = _device(text, system, parsed.device)
    bot = (browser or _NAMELESS_BOT) if device == "bot" else None
    return Agent(browser, browser_version, system, os_version, device, bot, text or None)


def _device(user_agent: str, system: str | None, device: ua_parser.Device | None) -> str | None:
    family = device.family if device else None
    if family == "Spider":
        return "bot"
    # Android's convention: a phone's browser says "Mobile", a tablet's does not.
    if family in _TABLETS or (system == "Android" and "Mobile" not in user_agent):
        return "tablet"
    if system in _MOBILE_SYSTEMS or family in _MOBILE_DEVICES:
        return "mobile"
    if system in _DESKTOP_SYSTEMS:
        return "desktop"
    return None
