"""The shapes of access tokens: what detect-secrets knows of them, and the few that it lacks.

Of detect-secrets only patterns are used: those of a token by itself, whatever its key is called,
that ordinary text does not have and that take a time linear in their text.
"""

from __future__ import annotations

import re
from functools import cache

_BEGIN = r"(?<![A-Za-z0-9])"
_REST = r"(?>(?:[.]?[\w-])*)"  # of one that is longer than its pattern
# Own patterns. Of web tokens (JWT), npm's and OpenAI's those of detect-secrets are not linear.
_OWN = re.compile(
    rf"""(?:{_BEGIN}(?:
        hf_[A-Za-z0-9]{{20,}} | github_pat_\w{{20,}} | sk-[\w-]{{20,}} | xox[cde]-[\w-]{{10,}}
        | AIza[\w-]{{30,}} | npm_[A-Za-z0-9]{{30,}} | r8_[A-Za-z0-9]{{30,}}
        | (?<![\w-])eyJ[\w-]{{8,}}={{0,2}}[.][\w-]{{2,}}=*
    ){_REST})|-----BEGIN\ [A-Z ]{{0,30}}PRIVATE\ KEY(?:\ BLOCK)?-----(?>(?:[^-]|-(?!----))*)""",
    re.VERBOSE,
)
_LONG = re.compile(r"[\w/+-]{11}|-----BEGIN ")  # no token is shorter


def without_tokens(text: str, mask: str) -> str:
    """Return a text with a mask for each part that has the shape of an access token."""
    if _LONG.search(text) is None:
        return text
    return _known().sub(mask, _OWN.sub(mask, text))


@cache  # loading the library takes a tenth of a second
def _known() -> re.Pattern[str]:
    from detect_secrets.plugins.aws import AWSKeyDetector
    from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
    from detect_secrets.plugins.discord import DiscordBotTokenDetector
    from detect_secrets.plugins.github_token import GitHubTokenDetector
    from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
    from detect_secrets.plugins.mailchimp import MailchimpDetector
    from detect_secrets.plugins.pypi_token import PypiTokenDetector
    from detect_secrets.plugins.sendgrid import SendGridDetector
    from detect_secrets.plugins.slack import SlackDetector
    from detect_secrets.plugins.square_oauth import SquareOAuthDetector
    from detect_secrets.plugins.stripe import StripeDetector
    from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
    from detect_secrets.plugins.twilio import TwilioKeyDetector

    detectors = (
        AWSKeyDetector,
        AzureStorageKeyDetector,
        DiscordBotTokenDetector,
        GitHubTokenDetector,
        GitLabTokenDetector,
        MailchimpDetector,
        PypiTokenDetector,
        SendGridDetector,
        SlackDetector,
        SquareOAuthDetector,
        StripeDetector,
        TelegramBotTokenDetector,
        TwilioKeyDetector,
    )
    shapes = (_scoped(pattern) for detector in detectors for pattern in detector.denylist)
    return re.compile(f"{_BEGIN}(?:{'|'.join(shapes)}){_REST}")


def _scoped(pattern: re.Pattern[str]) -> str:
    """Return a pattern with its flags, to be put into another."""
    flags = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
    letters = "".join(letter for letter, flag in flags.items() if pattern.flags & flag)
    end = "\n" if "x" in letters else ""  # a comment would hide the bracket
    return f"(?{letters}:{pattern.pattern}{end})"
