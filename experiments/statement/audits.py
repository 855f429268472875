"""The audits of a run: all that there ever were, oldest first, in audit.json and in the statement. None is taken out.

    kept_audits(folder)                     # [{"number": 1, "epsilon_lower": 0.31, "refutes_claim": False, ...}]
    with_audits(statement, audits)          # privacy.json has the same list
    [audit["sentence"] for audit in audits if audit["refutes_claim"]]

A later audit does not lift what an earlier one refuted: it may have had fewer trials, or worse luck. Earlier versions
kept the last audit only, an object where there is a list now; it is read as the first, with the verdict that it had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.folder.damage import StoreError
from experiments.folder.layout import AUDIT, STATEMENT
from experiments.folder.reader import RunFiles
from experiments.statement.page import render

Audits = list[dict[str, Any]]


def kept_audits(files: RunFiles) -> Audits:
    """All audits of a run: those in audit.json, and those in the statement that are not there any more.

    Raises the error of `files` (StoreError) for a file that has something else there.
    """
    kept = _checked(files, AUDIT, files.content(AUDIT)) if files.has(AUDIT) else []
    stated = stated_audits(files) if files.has(STATEMENT) else []
    return [*(audit for audit in stated if audit not in kept), *kept]


def stated_audits(files: RunFiles) -> Audits:
    """The audits in privacy.json. Raises as `kept_audits`, and if there is no such file."""
    statement = files.json(STATEMENT)
    return _checked(files, STATEMENT, statement.get("audits", statement.get("audit")))


def with_audits(statement: Mapping[str, Any], audits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The statement with these audits, whatever it had."""
    return {name: value for name, value in statement.items() if name != "audit"} | {"audits": list(audits)}


def audited_statement(files: RunFiles) -> dict[str, Any]:
    """The statement of a run that is to be audited. Raises StoreError if this version could not add an audit to it."""
    statement = files.json(STATEMENT)
    try:
        # Before hours of plays: what an audit is held against, and the page that it will be on.
        statement["central"], render(with_audits(statement, kept_audits(files)))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{files.path / STATEMENT} is not a statement of this version ({type(error).__name__}: {error}); give the "
            "run's command again (into another folder if it says so, with out=DIR), then audit that one"
        ) from None
    return statement


def _checked(files: RunFiles, name: str, found: object) -> Audits:
    """A list of audits; an object or null is how earlier versions wrote one or none."""
    audits = [] if found is None else [found] if isinstance(found, dict) else found
    if isinstance(audits, list) and all(_is_audit(audit) for audit in audits):
        return audits
    raise files.damaged(name, "not a list of audits")


def _is_audit(found: object) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("refutes_claim"), bool)
        and isinstance(found.get("sentence"), str)
        and isinstance(found.get("epsilon_lower"), int | float)
        and isinstance(found.get("plays"), int)
    )
