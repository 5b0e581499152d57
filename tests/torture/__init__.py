"""Proof that nothing is lost, doubled, mixed or changed: faults by the hundred, and an oracle after each.

``scripts/torture`` runs all of it, ``tests/system/test_torture.py`` a case of each kind. A *block* is a module with a
function ``cases``; a *case* does harm to a site, a deployment of its own on a ClickHouse server and an S3 API that
the cases of a worker share, lets it recover, and asks the *oracle* whether the six invariants of the design hold:

1. no reader ever saw a part of a snapshot, or two versions of it;
2. after recovery readers see the rows of the files, each value of each column;
3. a run with nothing to do writes nothing, downloads nothing, and exits 0;
4. what was done before the fault was not done again;
5. a failure exits non-zero with a line that names network, date, step, and what to do;
6. no secret is in a log, in a file, or in the text of a query.

The oracle shares no code with the pipeline: DuckDB reads the Parquet files, its SQL compares.
"""
