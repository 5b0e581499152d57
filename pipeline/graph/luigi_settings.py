"""luigi's settings: luigi.cfg of this package, which luigi.cfg at the top of the repository is a link to.

A run enforces them whatever luigi.cfg it found, or none: without [retcode] a failed run exits 0, without
check_complete_on_run a task that produced nothing is a success.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import luigi.configuration
import luigi.interface
import luigi.scheduler
import luigi.worker

PATH = Path(__file__).with_name("luigi.cfg")

#: Sections whose values are the operator's to choose: what the packaged file says there is the default.
OPERATORS = frozenset({"resources"})


def read(paths: Iterable[Path | str]) -> dict[str, dict[str, str]]:
    """Return what files say, by section and option; a later one counts. Raises OSError, configparser.Error."""
    config = RawConfigParser(default_section="")
    config.optionxform = lambda option: option.replace("-", "_")  # type: ignore[assignment,method-assign]  # luigi takes both
    for path in paths:
        config.read_string(Path(path).read_text("utf-8"), str(path))
    return {section: dict(config[section]) for section in config.sections()}


def differences(paths: Iterable[Path | str]) -> list[str]:
    """Return what files do not say as a run enforces it."""
    said = read(paths)
    return [
        f"[{section}] {option} is {found}, expected {value}"
        for section, options in LUIGI_SETTINGS.items()
        if section not in OPERATORS
        for option, value in options.items()
        if (found := said.get(section, {}).get(option, "missing")).lower() != value.lower()
    ]


def mistakes() -> Iterator[str]:
    """Yield the values of luigi.cfg, as this process read it, that luigi cannot read: it would end with a traceback."""
    config = luigi.configuration.get_config()
    sections: list[Any] = [luigi.interface.core, luigi.scheduler.scheduler, luigi.worker.worker]
    known = {
        (section.get_task_family(), option): parameter
        for section in sections
        for name, parameter in section.get_params()
        for option in (name, f"default_{name}")  # as luigid's address is also written
    }
    known |= {("resources", name): luigi.IntParameter() for name, _ in config.items("resources")}
    for (section, option), parameter in known.items():
        if config.has_option(section, option):
            try:
                parameter.parse(config.get(section, option))
            except (ValueError, TypeError) as error:
                yield f"[{section}] {option} of luigi.cfg: {error}"


LUIGI_SETTINGS = read([PATH])
