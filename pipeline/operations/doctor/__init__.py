"""Looks at everything that a run needs, before one does: each check by itself, so that one failing stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pydantic import SecretStr

from pipeline.errors import PipelineError
from pipeline.graph.context import Context
from pipeline.settings import Settings, secret_variables
from pipeline.snapshot import Snapshot

CheckState = Literal["ok", "warning", "failed"]

#: What the exit code says of a failed check: an operator has to change something, or it may come back by itself.
CONFIGURATION, UNREACHABLE = 2, 35

MASK = "*****"


@dataclass(frozen=True)
class CheckResult:
    """What a check found."""

    state: CheckState
    text: str
    hint: str = ""
    exit_code: int = 0
    check: str = ""  #: its name, written by who called it

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return asdict(self)


def ok(text: str) -> CheckResult:
    """Return that all is well."""
    return CheckResult("ok", text)


def warning(text: str, hint: str) -> CheckResult:
    """Return that runs work, but not as they should."""
    return CheckResult("warning", text, hint)


def failed(text: str, hint: str, exit_code: int = CONFIGURATION) -> CheckResult:
    """Return that runs cannot work."""
    return CheckResult("failed", text, hint, exit_code)


def of_error(error: PipelineError) -> CheckResult:
    """Return what an error says."""
    return failed(str(error), error.hint, UNREACHABLE if error.transient else CONFIGURATION)


@dataclass
class Examination:
    """What the checks share."""

    context: Context
    newest: dict[str, Snapshot] = field(default_factory=dict)  #: each network's newest snapshot, when the source said

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return self.context.settings


Check = Callable[[Examination], Iterator[CheckResult]]


def examine(context: Context, checks: Mapping[str, Check]) -> list[CheckResult]:
    """Run the checks in their order and return what they found."""
    examination = Examination(context)
    return [finding for name, check in checks.items() for finding in _findings(examination, name, check)]


def _findings(examination: Examination, name: str, check: Check) -> Iterator[CheckResult]:
    try:
        for finding in check(examination):
            yield replace(finding, check=name)
    except PipelineError as error:
        yield replace(of_error(error), check=name)
    except Exception as error:  # noqa: BLE001  # the other checks are wanted all the same
        hint = "this is a mistake of the doctor's own; the check's subject may be well"
        yield replace(failed(f"{type(error).__name__} in the check itself", hint), check=name)


def exit_code(findings: list[CheckResult]) -> int:
    """Return 0, or 2 when something has to be changed, or 35 when all that failed may come back by itself."""
    codes = {finding.exit_code for finding in findings} - {0}
    return min(codes, default=0)


def verdict(findings: list[CheckResult]) -> str:
    """Return in one sentence what the findings come to."""
    failures = [finding for finding in findings if finding.state == "failed"]
    names = ", ".join(dict.fromkeys(finding.check for finding in failures))
    warnings = sum(finding.state == "warning" for finding in findings)
    also = f"{warnings} warning{'' if warnings == 1 else 's'}" if warnings else ""
    if not failures:
        return f"Ready: runs can work, with {also}." if also else "Ready: all is well."
    more = f"; {also} beside it" if also else ""
    if exit_code(findings) == UNREACHABLE:
        return f"Not ready: no answer for {names}{more}. Bring back what does not answer, then ask again."
    return f"Not ready: {names} must be set right{more}. Do what the hints say, then ask again."


def shown_settings(chosen: Settings) -> dict[str, str]:
    """Return every variable and its value as one would write it; a secret that is set is masked, unset is ''."""
    secrets = secret_variables()
    fields = {field.alias: getattr(chosen, name) for name, field in Settings.model_fields.items() if field.alias}
    shown = {name: _shown(value, is_secret=name in secrets) for name, value in fields.items()}
    for network, override in sorted(chosen.overrides.items()):
        for name in override.model_fields_set:
            shown[f"{network}_CLICKHOUSE_{name}".upper()] = _shown(getattr(override, name), is_secret=False)
    return shown


def _shown(value: Any, *, is_secret: bool) -> str:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    match plain:
        case None | "" | ():
            return ""
        case _ if is_secret:
            return MASK
        case bool():
            return str(plain).lower()
        case tuple():
            return ",".join(map(str, plain))
        case _:
            return str(plain)
