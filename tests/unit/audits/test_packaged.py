"""The packaged audits: each finds what it is about, none cries wolf just inside its bounds or over what is good.

The snapshots are made in SQL, with as few columns as make a good one; all others have their type's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from uuid import uuid4

import pytest

from pipeline.audits.catalogue import ChosenAudit, load_catalogue
from pipeline.audits.runner import Candidate, ask_audits
from pipeline.snapshot import Snapshot
from pipeline.warehouse import Warehouse
from pipeline.warehouse.nearest import PublishedDay
from pipeline.warehouse.schema import ensure_schema
from tests.support import packaged_audits
from tests.support.warehouses import Databases

DAY = date(2025, 8, 10)
FEATURES, ALERTS, CLUSTERS, LABELS = "raw_features", "raw_alerts", "raw_clusters", "raw_address_labels"
ROWS = {FEATURES: 200, ALERTS: 40, CLUSTERS: 10, LABELS: 100}

#: Values of a good snapshot, in SQL: ``number`` counts the rows, {rows} is how many, {day} the day of the month.
GOOD: dict[str, dict[str, str]] = {
    FEATURES: {
        "address": "leftPad(toString(number), 8, '0')",
        "degree_total": "2",
        "unique_counterparties": "2",
        "kcore": "1",
        "total_in_usd": "number + 1",
        "total_out_usd": "{rows} - number",
        "net_flow_usd": "2 * toInt64(number) + 1 - {rows}",
        "total_volume_usd": "{rows} + 1",
        "tx_in_count": "number % 2 + 1",
        "tx_out_count": "2 - number % 2",
        "tx_total_count": "3",
        "activity_days": "195",
        "activity_span_days": "195",
        "hourly_activity": "arrayMap(hour -> hour = 7, range(24))",
        "daily_activity": "arrayMap(day -> day = 3, range(7))",
        "pagerank": "1 / {rows}",
        "closeness": "{day} + number / 7",
        "graph_anomaly_score": "number",
        "volume_cv": "if(number % 10 = 0, nan, number)",
    },
    ALERTS: {
        "alert_id": "concat('alert', toString(number))",
        "address": "concat('address', toString(number))",
        "typology_type": "'STRUCTURING'",
        "severity": "'high'",
        "suspected_address_type": "'wallet'",
        "alert_confidence_score": "0.8",
        "volume_usd": "{day} + number",
        "evidence_json": "'{}'",
    },
    CLUSTERS: {
        "cluster_id": "toString(number)",
        "cluster_type": "'same_entity'",
        "primary_alert_id": "concat('alert', toString(number))",
        "related_alert_ids": "[concat('alert', toString(number)), 'alert0']",
        "addresses_involved": "['address']",
        "total_alerts": "2",
        "severity_max": "'high'",
        "confidence_avg": "0.8",
    },
    LABELS: {
        "address": "toString(number)",
        "label": "'exchange'",
        "network_type": "'evm'",
        "risk_level": "'low'",
        "confidence_score": "1",
        "trust_level": "'official'",
    },
}


def store(warehouse: Warehouse, table: str, day: date, rows: int, values: Mapping[str, str]) -> str:
    """Store rows that are good but for ``values``; return their load."""
    load_id = str(uuid4())
    columns = {
        "processing_date": f"toDate('{day}')",
        "window_days": "195",
        "load_id": f"toUUID('{load_id}')",
        **GOOD[table],
        **values,
    }
    selected = ", ".join(
        value.replace("{rows}", str(rows)).replace("{day}", str(day.day)) for value in columns.values()
    )
    warehouse.execute(
        f"INSERT INTO {{database}}.{table}_loads ({', '.join(columns)}) SELECT {selected} FROM numbers({rows})"
    )
    return load_id


@dataclass(frozen=True)
class Stage:
    """A warehouse with a good snapshot, and the one of the day before."""

    warehouse: Warehouse
    good: Candidate

    def with_table(self, table: str, values: Mapping[str, str], rows: int | None = None) -> Candidate:
        """Return the good snapshot with another load of one table."""
        rows = ROWS[table] if rows is None else rows
        load_id = store(self.warehouse, table, self.good.snapshot.processing_date, rows, values)
        loads, counts = {**self.good.load_ids, table: load_id}, {**self.good.row_counts, table: rows}
        return replace(self.good, load_ids=loads, row_counts=counts)

    def found(self, candidate: Candidate, audits: Iterable[ChosenAudit] | None = None) -> dict[str, list[str]]:
        """Return what audits say is wrong, by name; all of them unless some are given."""
        results = ask_audits(self.warehouse, candidate, list(audits or packaged().values()))
        return {result.name: sorted(result.messages) for result in results if result.wrong}


@cache
def packaged() -> dict[str, ChosenAudit]:
    """Return the audits with their thresholds."""
    return {each.name: each for each in load_catalogue(None, ["torus"]).chosen("torus")}


@pytest.fixture(scope="module")
def stage(databases: Databases) -> Stage:
    """A good snapshot and the one of the day before in each kind of warehouse."""
    warehouse = databases.new()
    ensure_schema(warehouse)
    loads = {
        day: {table: store(warehouse, table, day, rows, {}) for table, rows in ROWS.items()}
        for day in (DAY, DAY - timedelta(1))
    }
    before = PublishedDay(DAY - timedelta(1), loads[DAY - timedelta(1)], ROWS)
    return Stage(warehouse, Candidate(Snapshot("torus", DAY, 195), loads[DAY], ROWS, [before]))


def test_a_good_snapshot_passes(stage: Stage) -> None:
    """As does one with nothing to compare with; what is counted or summed up is a figure."""
    assert stage.found(stage.good) == {}
    assert stage.found(replace(stage.good, days=[])) == {}
    figures = {
        result.name for result in ask_audits(stage.warehouse, stage.good, list(packaged().values())) if result.figures
    }
    assert figures == {name for name in packaged() if not name.endswith(("_values", "_identities", "_enumerations"))}


@dataclass(frozen=True)
class Defect:
    """What is wrong with a table, and what is said of it."""

    audit: str
    table: str
    values: Mapping[str, str]
    said: Sequence[str]  #: of each message how it begins


AMOUNTS = [
    *("total_in_usd", "total_out_usd", "total_volume_usd", "avg_tx_in_usd", "avg_tx_out_usd", "median_tx_in_usd"),
    *("median_tx_out_usd", "max_tx_usd", "min_tx_usd", "avg_daily_volume_usd", "khop1_volume_usd"),
    *("khop2_volume_usd", "khop3_volume_usd"),
]
SCORES = [
    *("regularity_score", "concentration_ratio", "velocity_score", "structuring_score", "weekend_transaction_ratio"),
    *("night_transaction_ratio", "small_transaction_ratio", "consistency_score", "pagerank", "betweenness"),
    *("clustering_coefficient", "centrality_score", "counterparty_stability", "flow_burstiness"),
    *("transaction_regularity", "amount_predictability", "completeness_score"),
]


def in_row_5(column: str, value: str, table: str = FEATURES) -> str:
    """Return the SQL of a column that is good but for one row."""
    return f"if(number = 5, {value}, {GOOD[table].get(column, '0')})"


DEFECTS = {
    "negative amounts": Defect(
        "features_values",
        FEATURES,
        {name: in_row_5(name, "-1") for name in AMOUNTS},
        [f"raw_features: {name} >= 0 does not hold in 1 of 200 rows, for example by '-1'" for name in AMOUNTS],
    ),
    "scores above 1": Defect(
        "features_values",
        FEATURES,
        {name: in_row_5(name, "1.00001") for name in SCORES},
        [f"raw_features: {name} in 0..1 does not hold in 1 of 200 rows, for example by '1.00001'" for name in SCORES],
    ),
    "scores that are no numbers": Defect(
        "features_values",
        FEATURES,
        {name: in_row_5(name, "nan") for name in SCORES},
        [f"raw_features: {name} in 0..1 does not hold in 1 of 200 rows, for example by 'nan'" for name in SCORES],
    ),
    "histograms": Defect(
        "features_values",
        FEATURES,
        {
            "tx_total_count": in_row_5("tx_total_count", "0"),
            "hourly_activity": in_row_5("hourly_activity", "[9]"),
            "daily_activity": in_row_5("daily_activity", "[9]"),
        },
        [
            "raw_features: tx_total_count >= 1 does not hold in 1 of 200 rows",
            "raw_features: length of hourly_activity = 24 does",
            "raw_features: length of daily_activity = 7 does",
            "raw_features: sum of hourly_activity <= tx_total_count does",
            "raw_features: sum of daily_activity <= tx_total_count does",
        ],
    ),
    "alerts": Defect(
        "alerts_values",
        ALERTS,
        {
            "severity": "if(number = 5, 'severe', 'low')",
            "alert_confidence_score": "if(number = 5, -0.1, 0)",
            "volume_usd": "toInt64(number) - 1",
            "evidence_json": "if(number = 5, '[1]', if(number = 6, '', '{\"a\": [1]}'))",
        },
        [
            "raw_alerts: severity in low, medium, high, critical does not hold in 1 of 40 rows, for example",
            "raw_alerts: alert_confidence_score in 0..1 does not hold in 1 of 40 rows, for example by '-0.1'",
            "raw_alerts: volume_usd >= 0 does not hold in 1 of 40 rows, for example by '-1'",
            "raw_alerts: evidence_json is an object does not hold in 2 of 40 rows, for example by '[1]'",
        ],
    ),
    "clusters": Defect(
        "clusters_values",
        CLUSTERS,
        {
            "severity_max": "if(number = 5, 'Hi', 'medium')",
            "confidence_avg": "if(number = 5, 1.1, 1)",
            "total_volume_usd": "toInt64(number) - 1",
        },
        [
            "raw_clusters: severity_max in low, medium, high, critical does not hold in 1 of 10 rows, for example",
            "raw_clusters: confidence_avg in 0..1 does not hold in 1 of 10 rows, for example by '1.1'",
            "raw_clusters: total_volume_usd >= 0 does not hold in 1 of 10 rows, for example by '-1'",
        ],
    ),
    "labels": Defect(
        "labels_values",
        LABELS,
        {
            "risk_level": in_row_5("risk_level", "''", LABELS),
            "confidence_score": in_row_5("confidence_score", "inf", LABELS),
        },
        [
            "raw_address_labels: risk_level in low, medium, high, critical does not hold in 1 of 100 rows",
            "raw_address_labels: confidence_score in 0..1 does not hold in 1 of 100 rows, for example by 'inf'",
        ],
    ),
    "identities": Defect(
        "features_identities",
        FEATURES,
        {
            "degree_total": in_row_5("degree_total", "0"),
            "kcore": in_row_5("kcore", "0"),
            "tx_total_count": in_row_5("tx_total_count", "4"),
            "net_flow_usd": in_row_5("net_flow_usd", "-188.999"),
            "total_volume_usd": in_row_5("total_volume_usd", "201.001"),
            "hourly_activity": in_row_5("hourly_activity", "arrayResize([2], 24)"),
            "peak_activity_hour": in_row_5("peak_activity_hour", "24"),
            "peak_day": in_row_5("peak_day", "7"),
            "activity_days": in_row_5("activity_days", "196"),
            "activity_span_days": in_row_5("activity_span_days", "0"),
            "first_activity_timestamp": in_row_5("first_activity_timestamp", "1"),
            "burst_factor": in_row_5("burst_factor", "24.1"),
            "reciprocity_ratio": in_row_5("reciprocity_ratio", "0.51"),
            "hourly_entropy": in_row_5("hourly_entropy", "4.6"),
            "daily_entropy": in_row_5("daily_entropy", "2.9"),
        },
        [
            f"raw_features: {rule} does not hold in 1 of 200 rows"
            for rule in (
                "degree_total = unique_counterparties",
                "tx_total_count = tx_in_count + tx_out_count",
                "net_flow_usd = total_in_usd - total_out_usd",
                "total_volume_usd = total_in_usd + total_out_usd",
                "sum of hourly_activity = sum of daily_activity",
                "degree_total >= 1",
                "kcore >= 1",
                "peak hours <= 23",
                "peak days <= 6",
                "activity_days <= window_days",
                "activity_span_days in 1..window_days",
                "first activity <= last activity",
                "burst_factor in 0..24",
                "reciprocity_ratio in 0..0.5",
                "hourly_entropy in 0..log2(24)",
                "daily_entropy in 0..log2(7)",
            )
        ],
    ),
    "clusters' alerts": Defect(
        "clusters_identities",
        CLUSTERS,
        {
            "cluster_type": "if(number = 5, 'cousins', 'same_entity')",
            "total_alerts": "if(number = 5, 1, if(number = 4, 3, 2))",
            "related_alert_ids": "[concat('alert', toString(number + (number = 6))), 'alert40']",
            "addresses_involved": "if(number = 7, ['address', 'another'], ['address'])",
            "earliest_alert_timestamp": "number = 8",
        },
        [
            "raw_clusters: cluster_type in same_entity, same_pattern, related_network, time_based does not hold in 1",
            "raw_clusters: total_alerts >= 2 does not hold in 1 of 10 rows",
            "raw_clusters: total_alerts = length of related_alert_ids does not hold in 2 of 10 rows",
            "raw_clusters: primary_alert_id in related_alert_ids does not hold in 1 of 10 rows",
            "raw_clusters: related_alert_ids in raw_alerts does not hold in 10 of 10 rows",
            "raw_clusters: one address in addresses_involved of same_entity does not hold in 1 of 10 rows",
            "raw_clusters: earliest_alert_timestamp <= latest_alert_timestamp does not hold in 1 of 10 rows",
        ],
    ),
}


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_each_rule_about_rows_is_told_when_one_row_breaks_it(stage: Stage, defect: Defect) -> None:
    """With the rule, how many rows break it, and what one of them has; all broken rules at once, up to the limit."""
    audit = packaged()[defect.audit]
    found = stage.found(stage.with_table(defect.table, defect.values), [audit])[defect.audit]
    assert len(found) == len(defect.said)
    for message, said in zip(found, sorted(defect.said), strict=True):
        assert message.startswith(said)


INSIDE = {
    FEATURES: {
        **dict.fromkeys(set(AMOUNTS) - GOOD[FEATURES].keys(), "0"),
        **dict.fromkeys(set(SCORES) - {"pagerank"}, "if(number % 2, 1.0000005, -0.0000005)"),
        "net_flow_usd": "2 * toInt64(number) + 1 - {rows} + 0.0002",
        "total_volume_usd": "{rows} + 1 - 0.0002",
        "hourly_activity": "arrayResize([3], 24)",
        "daily_activity": "arrayResize([3], 7)",
        "peak_hour": "23",
        "peak_activity_day": "6",
        "burst_factor": "24",
        "reciprocity_ratio": "0.5",
        "hourly_entropy": "log2(24)",
        "daily_entropy": "log2(7)",
        "volume_std": "if(number % 6 = 0, nan, number)",
    },
    ALERTS: {
        "severity": "['low', 'medium', 'high', 'critical'][number % 4 + 1]",
        "alert_confidence_score": "if(number % 2, 1, 0)",
        "volume_usd": "{day} * number",
        "evidence_json": '\' {"a": {"b": []}} \'',
    },
    CLUSTERS: {
        "confidence_avg": "number % 2",
        "total_volume_usd": "0",
        "related_alert_ids": "['alert39', concat('alert', toString(number)), 'alert39']",
        "total_alerts": "3",
    },
    LABELS: {
        "risk_level": "['medium', 'critical'][number % 2 + 1]",
        "confidence_score": "number % 2",
        "network_type": "''",
    },
}


@pytest.mark.parametrize("table", INSIDE)
def test_what_lies_just_inside_passes(stage: Stage, table: str) -> None:
    """Bounds themselves, amounts and scores that rounding moved, and what upstream calls usual."""
    assert stage.found(stage.with_table(table, INSIDE[table])) == {}


def test_amounts_that_no_decimal_could_add_up_are_no_error(stage: Stage) -> None:
    """Twice the largest amount that the column holds."""
    largest = "toDecimal128('99999999999999999999', 18)"
    values = dict.fromkeys(("total_in_usd", "total_out_usd"), in_row_5("kcore", largest))
    found = stage.found(stage.with_table(FEATURES, values), [packaged()["features_identities"]])
    assert "total_volume_usd = total_in_usd + total_out_usd" in str(found)


def test_sums_over_a_whole_snapshot_are_compared(stage: Stage) -> None:
    """Unless it was cut: then what is missing is elsewhere."""
    audit = packaged()["features_sums"]
    candidate = stage.with_table(
        FEATURES,
        {
            "total_out_usd": in_row_5("total_out_usd", "0"),
            "tx_out_count": in_row_5("tx_out_count", "0"),
            "pagerank": "0.9 / {rows}",
        },
    )
    assert stage.found(candidate, [audit])["features_sums"] == [
        "raw_features: sum of pagerank is 0.9, expected 1, the whole",
        "raw_features: sum of total_out_usd is 19,905, expected 20,100, the sum of total_in_usd",
        "raw_features: sum of tx_out_count is 299, expected 300, the sum of tx_in_count",
    ]
    cut = replace(audit, parameters={**audit.parameters, "most_rows": 200.0})
    assert stage.found(candidate, [cut]) == {}


@pytest.mark.parametrize(
    ("audit", "table", "copied", "new", "said"),
    [
        (
            "stale_features",
            FEATURES,
            {"closeness": "9 + number / 7"},
            {"closeness": "9 + number / 7 + (number = 199)"},
            "raw_features: 200 of the first 200 addresses have all values of 2025-08-09, expected fewer than 200",
        ),
        (
            "stale_alerts",
            ALERTS,
            {"volume_usd": "9 + number", "alert_id": "concat('new', toString(number))"},
            {"volume_usd": "9 + number + (number = 39)"},
            "raw_alerts: 40 of 40 alerts are as on 2025-08-09 but for their ids, expected fewer than 40",
        ),
    ],
)
def test_a_copy_of_the_day_before_is_told(
    stage: Stage, audit: str, table: str, copied: dict[str, str], new: dict[str, str], said: str
) -> None:
    """Every value equal but for the date and ids with a date; one row that is new, or few rows, are enough to pass."""
    assert stage.found(stage.with_table(table, copied), [packaged()[audit]]) == {audit: [said]}
    assert stage.found(stage.with_table(table, new), [packaged()[audit]]) == {}
    assert stage.found(stage.with_table(table, copied, rows=9), [packaged()[audit]]) == {}


def test_a_day_that_is_published_again_is_compared_with_what_readers_see_of_it(stage: Stage) -> None:
    """A file that is exported again is no stale copy, one of the day before is; what is right now may be published."""
    seen = PublishedDay(DAY, stage.good.load_ids, ROWS)
    again = stage.with_table(FEATURES, {})
    again = replace(again, load_ids={**again.load_ids, ALERTS: stage.with_table(ALERTS, {}).load_ids[ALERTS]})
    assert stage.found(replace(again, days=[seen])) == {}
    again = replace(again, days=[seen, *stage.good.days])
    assert stage.found(again) == {}
    of_yesterday = stage.with_table(FEATURES, {"closeness": "9 + number / 7"})
    assert list(stage.found(replace(of_yesterday, days=again.days))) == ["stale_features"]

    few, alike = (
        stage.with_table(FEATURES, {"graph_anomaly_score": "0", **values}, rows=rows)
        for rows, values in ((5, {}), (200, {"closeness": "number / 9"}))
    )
    first_day = [seen]
    assert stage.found(replace(few, days=first_day)).keys() - {"features_sums"} == {"addresses_gone", "row_counts"}
    assert stage.found(replace(alike, days=first_day)).keys() == {"constant_scores"}
    for wrong in (few, alike):
        mended = [PublishedDay(DAY, wrong.load_ids, wrong.row_counts), *stage.good.days]
        assert stage.found(replace(stage.good, days=mended)) == {}
    moved = stage.with_table(FEATURES, {"address": "leftPad(toString(number + 86), 8, '0')"})
    assert stage.found(replace(moved, days=first_day)) == {}


def test_addresses_that_are_gone_are_counted(stage: Stage) -> None:
    """87 of 200 after a day are too many, 86 are not; all of them are not after a month; nor when rows were cut."""
    audit = packaged()["addresses_gone"]
    gone = {
        rows: stage.with_table(FEATURES, {"address": f"leftPad(toString(number + {rows}), 8, '0')"})
        for rows in (86, 87)
    }
    assert stage.found(gone[86], [audit]) == {}
    said = "raw_features: 87 of 200 addresses of 2025-08-09 are gone, expected at most 86"
    assert stage.found(gone[87], [audit]) == {"addresses_gone": [said]}
    cut = replace(audit, parameters={**audit.parameters, "most_rows": 200.0})
    assert stage.found(gone[87], [cut]) == {}
    few = stage.with_table(FEATURES, {}, rows=5)
    assert stage.found(few, [audit])["addresses_gone"] == [said.replace("87", "195")]
    month_later = replace(few, snapshot=Snapshot("torus", DAY + timedelta(30), 195))
    assert stage.found(month_later, [audit]) == {}


@pytest.mark.parametrize(
    ("column", "inside", "outside", "said"),
    [
        (
            "graph_anomaly_score",
            "greatest(number, 179)",
            "greatest(number, 180)",
            "180 in 181 of the first 200 rows, expected at most 180",
        ),
        (
            "volume_cv",
            "if(number < 80, nan, number)",
            "if(number < 81, nan, number)",
            "NaN in 81 of the first 200 rows, expected at most 80",
        ),
        ("total_in_usd", "if(number < 180, 0, number)", "0", "0 in 200 of the first 200 rows, expected at most 180"),
    ],
)
def test_a_column_that_became_constant_is_told(stage: Stage, column: str, inside: str, outside: str, said: str) -> None:
    """One value or NaN, where the day before had others; columns that were constant before are none."""
    audit = packaged()["constant_scores"]
    found = stage.found(stage.with_table(FEATURES, {column: outside}), [audit])
    assert found == {"constant_scores": [f"raw_features.{column} is {said}, judged by 2025-08-09"]}
    assert stage.found(stage.with_table(FEATURES, {column: inside}), [audit]) == {}


@pytest.mark.parametrize(
    ("column", "inside", "outside", "value"),
    [
        ("volume_usd", "greatest(number, 35)", "greatest(number, 36)", "36"),
        ("address", "toString(least(number, 4))", "toString(least(number, 3))", "3"),
    ],
)
def test_alerts_that_became_alike_are_told(stage: Stage, column: str, inside: str, outside: str, value: str) -> None:
    """One value, where the day before had others; of few alerts that is no wonder."""
    audit = packaged()["constant_alerts"]
    said = f"raw_alerts.{column} is '{value}' in 37 of the first 40 rows, expected at most 36, judged by 2025-08-09"
    assert stage.found(stage.with_table(ALERTS, {column: outside}), [audit]) == {"constant_alerts": [said]}
    assert stage.found(stage.with_table(ALERTS, {column: inside}), [audit]) == {}
    assert stage.found(stage.with_table(ALERTS, {column: "1"}, rows=19), [audit]) == {}


@pytest.mark.parametrize(("rows", "is_told"), [(40, True), (19, False)])
def test_clusters_that_became_alike_are_told(stage: Stage, rows: int, *, is_told: bool) -> None:
    """Judged by a day that has enough of them."""
    before = stage.with_table(CLUSTERS, {"confidence_avg": "number / 40"}, rows=rows)
    alike = stage.with_table(CLUSTERS, {"confidence_avg": "0.5"}, rows=40)
    candidate = replace(alike, days=[PublishedDay(DAY - timedelta(1), before.load_ids, before.row_counts)])
    said = "raw_clusters.confidence_avg is '0.5' in 40 of the first 40 rows, expected at most 36, judged by 2025-08-09"
    found = stage.found(candidate, [packaged()["constant_clusters"]])
    assert found == ({"constant_clusters": [said]} if is_told else {})


def test_values_that_upstream_does_not_know_are_told_once(stage: Stage) -> None:
    """Not on the day after, which had them the day before."""
    alerts = {"typology_type": "if(number = 5, 'ROUND_TRIP', 'CYCLE_DETECTION')", "suspected_address_type": "'bank'"}
    labels = {"network_type": "'cosmos'", "trust_level": "'hearsay'"}
    audits = [packaged()[name] for name in ("alerts_enumerations", "labels_enumerations")]
    candidate = stage.with_table(ALERTS, alerts)
    candidate = replace(
        candidate, load_ids={**candidate.load_ids, LABELS: stage.with_table(LABELS, labels).load_ids[LABELS]}
    )
    known = "upstream has no such value, nor had the nearest published day"
    assert stage.found(candidate, audits) == {
        "alerts_enumerations": [
            f"raw_alerts.suspected_address_type is 'bank' (rows: 40): {known}",
            f"raw_alerts.typology_type is 'ROUND_TRIP' (rows: 1): {known}",
        ],
        "labels_enumerations": [
            f"raw_address_labels.network_type is 'cosmos' (rows: 100): {known}",
            f"raw_address_labels.trust_level is 'hearsay' (rows: 100): {known}",
        ],
    }
    loads = {table: candidate.load_ids[table] for table in (ALERTS, LABELS)}
    day_after = replace(candidate, days=[PublishedDay(DAY, loads, ROWS)])
    assert stage.found(day_after, audits) == {}


def test_the_page_lists_the_audits_that_there_are() -> None:
    """With their levels and thresholds: ``scripts/docs`` writes it."""
    assert packaged_audits.PAGE.read_text("utf-8") == packaged_audits.written()
