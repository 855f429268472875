"""Where an endpoint is and how it knows us: its address, and the key that only the environment holds.

    address = EndpointAddress(base_url="http://localhost:8000/v1", key_variable=None)
    address.key()                           # None: this server wants none

A key is read when it is used and kept nowhere; no message repeats what might be one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from synth.generator import GenerationError


@dataclass(frozen=True, kw_only=True)
class EndpointAddress:
    """`base_url` ends where the protocol's paths begin; `key_variable` names the environment variable with the key.

    Raises ValueError for an address with more in it than an address, and for a key in place of a variable's name.
    """

    base_url: str
    key_variable: str | None

    def __post_init__(self) -> None:
        # These two are not repeated in a message: a mistaken one may hold the key itself.
        if not _is_plain(self.base_url):
            raise ValueError(
                "writer.base_url is no plain address; expected http(s)://host[:port]/v1 without user, password or "
                "query (a key belongs into the environment variable that writer.key_variable names)"
            )
        if self.key_variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable):
            raise ValueError("writer.key_variable is not the NAME of an environment variable, as SYNTHPOLL_API_KEY is")

    def key(self) -> str | None:
        """The key, or None for a server without keys. Raises GenerationError if it is missing or cannot be sent."""
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "")
        if not key:
            raise GenerationError(
                f"the environment variable {self.key_variable} is not set; put the endpoint's key there, or set "
                "writer.key_variable=null for a server without keys"
            )
        if not re.fullmatch(r"[!-~]+", key):  # the transport would put the whole header into its error
            raise GenerationError(
                f"the environment variable {self.key_variable} has a space, a line break or another character that no "
                "key has; set it anew"
            )
        return key

    def without_key(self, said: object) -> str:
        """What a server said, on one line, at most 300 characters and without the key."""
        text, key = " ".join(str(said or "").split()), self.key()
        return (text.replace(key, "...") if key else text)[:300]

    def unauthorized(self) -> GenerationError:
        """The key is missing or not accepted (401)."""
        if self.key_variable is None:
            return GenerationError(
                f"the endpoint {self.base_url} wants a key (401); set writer.key_variable to the variable that has it"
            )
        return GenerationError(
            f"the endpoint {self.base_url} does not accept the key in the environment variable {self.key_variable} "
            "(401); put a valid key there and run again, finished answers are kept"
        )

    def silent(self, why: str) -> GenerationError:
        """Nobody is there."""
        because = f" ({' '.join(why.split())})" if why else ""
        return GenerationError(
            f"nothing answers at {self.base_url}{because}; start the server, or set writer.base_url or writer.timeout"
        )


def _is_plain(url: str) -> bool:
    """Is this the address of a server and nothing more, which might be secret?"""
    try:
        parts = urlsplit(url)
        place = parts.hostname is not None and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        return False
    more = "@" in parts.netloc or parts.query or parts.fragment or re.search(r"\s", url)
    return parts.scheme in ("http", "https") and place and not more
