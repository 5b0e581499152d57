"""A Parquet file whose digest is right and whose inside is not ends in an error, never in the end of the process."""

from __future__ import annotations

import multiprocessing
import random
import struct
from pathlib import Path

import pytest

from pipeline.errors import DataError, FileError
from pipeline.files import checks, parquet
from pipeline.tables import BY_NAME
from tests.support.deployment import ServerReader
from tests.support.inprocess import in_process, refused
from tests.support.snapshots import Bucket
from tests.torture.defect import Defect
from tests.torture.parquet_shape import bytes_, encrypt

ALERTS = "raw_alerts"


def look_into(path: Path) -> None:
    """Do what a run does with a file before it loads it."""
    footer = parquet.read_footer(path, path.name)
    checks.check_columns(footer, BY_NAME[ALERTS], path.name, ignore_extra=False)
    checks.check_lists(path, BY_NAME[ALERTS], path.name)


def look_into_all(paths: list[Path]) -> None:
    """The same with many, each of which may be refused; for a process of its own."""
    for path in paths:
        try:
            look_into(path)
        except DataError:
            continue


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_is_refused(tmp_path: Path, plaintext_footer: bool) -> None:
    """One with a readable footer too: pyarrow ends the process when it is asked for an encrypted column's facts."""
    files = Bucket(tmp_path).snapshot()
    encrypt(files, plaintext_footer=plaintext_footer)
    with multiprocessing.get_context("fork").Pool(1) as pool:  # so that its end is not ours
        refused = pool.apply_async(look_into, [files.path(ALERTS)])
        if plaintext_footer:  # the lists are not encrypted: ClickHouse refuses it
            refused.get(timeout=30)
        else:
            with pytest.raises(FileError, match="encrypted"):
                refused.get(timeout=30)


@pytest.mark.parametrize("defect", list(bytes_()), ids=lambda defect: defect.name)
def test_wrong_bytes_with_the_right_digest_are_refused(
    defect: Defect, server_reader: ServerReader, tmp_path: Path
) -> None:
    """Cuts, forged sizes, another file's footer, encryption, 100,000 row groups: at the file, before publication."""
    files = Bucket(tmp_path / "bucket").snapshot()
    defect.spoil(files)
    deployment, context = in_process(files.root, server_reader, tmp_path / "run")
    _, table, error = refused(context, files.snapshot)
    context.close()
    assert table == ALERTS
    assert defect.file in str(error)
    assert error.hint
    assert deployment.publications(files.snapshot) == []


def test_a_damaged_footer_is_refused(tmp_path: Path) -> None:
    """Whatever bytes of it are others: names that are not UTF-8, sizes, types, statistics, encryption."""
    chance, files = random.Random(5), Bucket(tmp_path).snapshot()  # noqa: S311  # the same every time
    whole = files.path(ALERTS).read_bytes()
    (size,) = struct.unpack("<I", whole[-8:-4])
    damaged = []
    for number in range(500):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[-9 - chance.randrange(size)] = chance.randrange(256)
        damaged.append(tmp_path / f"{number}.parquet")
        damaged[-1].write_bytes(data)
    process = multiprocessing.get_context("fork").Process(target=look_into_all, args=[damaged])
    process.start()
    process.join(60)
    assert process.exitcode == 0
