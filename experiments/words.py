"""The words of a command line on their way to Hydra, and Hydra's errors on their way back, in one line.

understood("run", ["experiment=town", "devices.path=2023"])    # ['experiment=town', 'devices.path="2023"']
explained(error, "config", words)                              # "there is no key 'epsilonn'; did you mean epsilon?"
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.launch import UsageError

_PLACES = frozenset({"path", "out", "runs", "cache", "ledger", "folder", "file", "model"})  # keys whose value names one
_PLAIN = re.compile(r"[A-Za-z0-9_./~+:-]*")
_NO_NAME = re.compile(r"[+-]?[\d_]*\.?[\d_]+(?:e[+-]?\d+)?|[+-]?(?:inf|nan)|true|false|yes|no|on|off", re.IGNORECASE)
_OPTIONS = frozenset(
    {
        f"--{name}"
        for name in (
            *("help", "hydra-help", "cfg", "info", "multirun", "resolve", "package", "config-path", "config-name"),
            *("config-dir", "run", "version", "shell-completion"),
        )
    }
)
_CALLED = {"frequency_oracle": "mechanism"}
_SURVIVAL = ("selector", "keep", "concentration")
"""Keys of earlier versions that are decision=survival's now."""


def understood(command: str, arguments: Sequence[str]) -> list[str]:
    """The words, names of places quoted where Hydra would read something else than a name.

    Raises UsageError for options that there are not, and for keys of earlier versions.
    """
    for word, following in itertools.pairwise([*arguments, ""]):
        name, _, value = word.partition("=")
        if word.startswith("--") and name not in _OPTIONS:
            value = value or (following if "=" not in following and not following.startswith("-") else "") or "VALUE"
            raise UsageError(
                f"{name} is no option of synthpoll {command}; values are given as key=value: {name.lstrip('-')}={value}"
            )
    given = dict(word.lstrip("+").split("=", 1) for word in arguments if "=" in word and not word.startswith("-"))
    for key, value in given.items():
        _check_name(key, value)
    return [_quoted(word) for word in arguments]


def _check_name(key: str, value: str) -> None:
    first, _, rest = key.partition(".")
    if first in _CALLED:
        now = key.replace(first, _CALLED[first], 1)
        raise UsageError(f"{key} is called {now} now; give {now}={value}")
    if first in _SURVIVAL:
        # A group is overridden where it is; a value has one path.
        now = f"decision.{key}" if rest or first != "selector" else "selector@decision.selector"
        raise UsageError(f"{key} is a setting of decision=survival now; give decision=survival {now}={value}")


def _quoted(word: str) -> str:
    """'devices.path=2023' as 'devices.path="2023"': a folder's name is a name, whatever it looks like."""
    key, sign, value = word.partition("=")
    if not sign or word.startswith("-") or key.lstrip("+").rpartition(".")[2] not in _PLACES or not value:
        return word
    if value[0] in "\"'" or "${" in value or "," in value or value in ("null", "???"):
        return word
    if _PLAIN.fullmatch(value) and not _NO_NAME.fullmatch(value):
        return word
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}="{escaped}"'


def explained(error: Exception, configuration: str, arguments: Sequence[str]) -> str:
    """One line on what cannot be composed: the word, what was expected, what to give."""
    told = " ".join(str(error).split())
    if found := re.search(r"Could not (?:override|append to config) '([^']+)'", told):
        return _no_key(found[1], configuration, arguments)
    if found := re.search(r"Could not find '?([\w./@-]+)/([^'/\s]+)'?", told):
        return _no_choice(found[1], found[2], told)
    if unread := [word for word in arguments if not word.startswith("-") and not _can_be_read(word)]:
        return _unreadable(unread[0])
    if found := re.search(r"Missing mandatory value: ([\w.]+)", told):
        return f"{found[1]} is missing; give {found[1]}=VALUE"
    if found := re.search(r"^([\w./@-]+) (?:is|are) .*?not in (?:the )?defaults list", told):
        return _no_key(found[1], configuration, arguments)
    return told


def _no_key(key: str, configuration: str, arguments: Sequence[str]) -> str:
    known = _keys(configuration, arguments)
    name = key.rpartition(".")[2]
    inside = [other for other in known if other.rpartition(".")[2] == name]
    near = inside or difflib.get_close_matches(key, known, n=3, cutoff=0.75)
    if not near:
        near = [other for other in known if difflib.get_close_matches(name, [other.rpartition(".")[2]], cutoff=0.75)]
    advice = f"did you mean {' or '.join(near[:3])}?" if near else "synthpoll run --help lists all"
    return f"there is no key {key!r}; {advice}"


def _no_choice(group: str, name: str, told: str) -> str:
    listed = re.search(r"Available options in '[^']*': ([\w\s./-]+?)(?: Config search path| Set the| $|$)", told)
    options = listed[1].split() if listed else []
    near = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean {near[0]}?" if near else f"give {group}=NAME"
    return f"{group} is {name!r}; expected one of {', '.join(options)}; {hint}"


def _can_be_read(word: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def _unreadable(word: str) -> str:
    key, sign, value = word.partition("=")
    if not sign:
        return f"{word!r} is no key=value; expected, for example, epsilon=4"
    inside = value.strip("\"'").replace('"', '\\"')
    return f"the value of {word!r} cannot be read; in quotes it can: '{key}=\"{inside}\"'"


def _keys(configuration: str, arguments: Sequence[str]) -> list[str]:
    """All keys of the configuration that the words choose, as far as they can be composed."""
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    with initialize_config_module("conf", version_base="1.3"):
        chosen: list[str] = []
        for word in arguments:
            key, sign, _ = word.partition("=")
            try:
                if sign and "." not in key:
                    compose(configuration, overrides=[*chosen, word])
                    chosen.append(word)
            except HydraException:  # it may be the very word that is explained
                continue
        composed = compose(configuration, overrides=chosen)
    return sorted(set(_flat(OmegaConf.to_container(composed, resolve=False))))


def _flat(node: Any, above: str = "") -> Iterator[str]:
    for key, value in node.items():
        name = f"{above}{key}"
        if not str(key).startswith("_"):
            yield name
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
