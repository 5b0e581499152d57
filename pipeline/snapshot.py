"""The key of a snapshot, and every object key that follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

NETWORK_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")
MANIFEST_NAME = "META.json"


@dataclass(frozen=True, order=True)
class Snapshot:
    """One network's data for one UTC day, looking ``window_days`` back."""

    network: str
    processing_date: date
    window_days: int

    def __post_init__(self) -> None:
        if not NETWORK_PATTERN.fullmatch(self.network):
            raise ValueError(f"network {self.network!r} is not of the form {NETWORK_PATTERN.pattern}")
        if not 1 <= self.window_days <= 65_535:
            raise ValueError(f"window_days {self.window_days} is not between 1 and 65535")

    def __str__(self) -> str:
        return f"{self.network}/{self.processing_date.isoformat()}/{self.window_days}"

    def as_dict(self) -> dict[str, str | int]:
        """Return it as JSON and manifests know it."""
        return {**vars(self), "processing_date": self.processing_date.isoformat()}

    @property
    def log_fields(self) -> dict[str, str | int]:
        """The fields of a log event about it."""
        return dict(zip(("network", "date", "window"), self.as_dict().values(), strict=True))

    @property
    def options(self) -> str:
        """What names it on the command line of a verb."""
        return f"--date {self.processing_date.isoformat()} --network {self.network} --window-days {self.window_days}"

    @property
    def label(self) -> str:
        """What people call it: ``torus 2025-08-01``."""
        return f"{self.network} {self.processing_date.isoformat()}"

    @property
    def folder(self) -> str:
        """Where the bucket keeps the snapshot, without a slash at either end."""
        return f"snapshots/{self}"

    @property
    def manifest_key(self) -> str:
        """Where the bucket keeps the manifest."""
        return f"{self.folder}/{MANIFEST_NAME}"

    @property
    def shared_labels_key(self) -> str:
        """Where the bucket keeps the labels that every export of the network overwrites."""
        return f"address-labels/{self.network}_address_labels.parquet"


def snapshot_of_manifest_key(key: str) -> Snapshot | None:
    """Return the snapshot whose manifest lies at ``key``, or None when it is not a manifest's key."""
    match key.split("/"):
        case ["snapshots", network, day, window, name] if name == MANIFEST_NAME and window.isdecimal():
            try:
                found = Snapshot(network, date.fromisoformat(day), int(window))
            except ValueError:
                return None
            return found if found.manifest_key == key else None  # 20250801 is a date to Python, too
    return None
