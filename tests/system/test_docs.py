"""README and docs say what is so: their tables, commands, queries and grants are compared with the things, or run."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from loguru import logger
from luigi.cmdline_parser import CmdlineParser

import pipeline.tasks  # noqa: F401  # registers the tasks that commands name
from pipeline import environment, exit_codes
from pipeline.cli import VERBS
from pipeline.errors import PipelineError
from pipeline.runs import metrics
from pipeline.settings import Settings, get_settings, secret_variables
from pipeline.settings.options import Override
from pipeline.tables import AUDITS, CLAIMS, LEDGER, STEPS, SUMMARIES, TABLE_VIEWS, schema_sql
from pipeline.warehouse.schema import ensure_schema
from tests.support import configuration
from tests.support.clickhouse import ClickHouseError, OwnClickHouse, User
from tests.support.deployment import ALONE, COMMANDS, Deployment, Result, ServerReader, a_day, in_directory, selection
from tests.support.inprocess import in_process, ingest
from tests.support.json_schemas import mistakes, schemas
from tests.support.snapshots import SnapshotFiles

pytestmark = pytest.mark.usefixtures("audited")

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = "\n".join([README, *(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))])
#: Pages whose queries are about both days, and run in test_analysts.py.
OF_TWO_DAYS = ("queries.md", "other-tools.md")
NETWORK = "torus"
DAY, OTHER_DAY = a_day("2025-08-01", NETWORK), a_day("2025-08-02", NETWORK)


def table(heading: str) -> list[tuple[str, ...]]:
    """Return the rows of the table under a heading of README, cells without the code's backticks."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in row) for row in rows[2:]]


def blocks(language: str, text: str = PAGES) -> list[str]:
    """Return the code blocks of a language in README and docs, or in a page; "" gives those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands(program: str) -> list[str]:
    """Return the command lines of a program in README and docs, without comments, those in prose and cron too."""
    lines = [line.split(" #")[0] for block in (*blocks("bash"), *blocks("")) for line in block.splitlines()]
    found = [match[1] for line in lines if (match := re.search(rf"(?:^|&& \S*)({program} .*)", line))]
    return [command.strip() for command in (*found, *re.findall(rf"`({program} [^`]*)`", PAGES))]


def statements(text: str) -> list[str]:
    """Return the SQL statements without comments."""
    return [statement.strip() for statement in re.sub(r"--.*", "", text).split(";") if statement.strip()]


def grants_to(role: str) -> list[str]:
    """Return what docker/grants.sql grants to a role; what the source must grant is tried in test_sot_source.py."""
    return [each for each in statements((ROOT / "docker" / "grants.sql").read_text("utf-8")) if f" TO {role}" in each]


GRANTS, ANALYSTS_GRANTS = grants_to("sot_ingest"), grants_to("sot_analyst")
_PAGES_OF_A_DAY = [
    README,
    *(
        path.read_text("utf-8")
        for path in (ROOT / "docs").glob("*.md")
        if path.name not in {*OF_TWO_DAYS, "cluster.md"}
    ),
]
QUERIES = [
    query
    for query in statements("\n;".join(blocks("sql", "\n".join(_PAGES_OF_A_DAY))))
    if not query.startswith("GRANT") and "{raw_" not in query  # an audit, which test_runner.py has
]

# The tables


def test_readme_fits_on_five_screens() -> None:
    """Somebody reads all of it: 250 lines of at most 120 characters."""
    lines = README.splitlines()
    assert len(lines) <= 250
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_every_variable_is_documented() -> None:
    """scripts/docs has nothing to write."""
    assert configuration.PAGE.read_text("utf-8") == configuration.written()


def test_every_override_is_documented() -> None:
    """The variables of one network are those that the settings know."""
    documented = set(re.findall(r"`<NETWORK>_CLICKHOUSE_(\w+)`", PAGES))
    assert documented == {name.upper() for name in Override.model_fields}


def test_every_variable_in_the_text_exists() -> None:
    """No sentence names a variable that nobody reads."""
    text = re.sub(r"<NETWORK>_\w+", "", PAGES.replace((ROOT / "docs" / "columns.md").read_text("utf-8"), ""))
    named = set(
        re.findall(
            r"\b(?:SOT|INGESTION|WAREHOUSE|WORK|LOG|CLICKHOUSE|NOTIFY|PING|METRICS|REPORT|API)_[A-Z0-9_]+\b", text
        )
    )
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    known |= set(map(environment.file_variable, secret_variables()))
    of_compose = set(re.findall(r"\$\{(\w+)", (ROOT / "docker" / "compose.yaml").read_text("utf-8")))
    assert known <= named <= known | of_compose


def test_every_exit_code_is_documented() -> None:
    """Code and meaning are those of the process, in their order."""
    assert table("Exit codes") == [(str(code), meaning) for code, meaning in exit_codes.MEANINGS.items()]


def test_every_exit_code_is_in_the_runbook() -> None:
    """Each has a paragraph that says what to do, under the meaning that --help gives it; those of signals share one."""
    runbook = (ROOT / "docs" / "operations.md").read_text("utf-8")
    paragraphs = re.findall(r"^### ([\d, ]+): (.*)\n\n((?:- .*\n|  .*\n)+)", runbook, re.MULTILINE)
    assert [code for codes, _, _ in paragraphs for code in map(int, codes.split(", "))] == [*exit_codes.MEANINGS][1:]
    assert [codes for codes, _, text in paragraphs if "**What to do**" not in text] == []
    for codes, meaning, _ in paragraphs[:-1]:
        assert set(meaning.split(", ")[0].split()) <= set(re.sub("[,;]", "", exit_codes.MEANINGS[int(codes)]).split())


def test_every_metric_is_documented() -> None:
    """By its name, in the order of the file."""
    assert re.findall(r"^\| `(sot_ingest_\w+)`", PAGES, re.MULTILINE) == [*metrics.METRICS, *metrics.SERVED]


# The commands


@pytest.mark.parametrize("command", commands("sot-ingest"))
def test_a_sot_ingest_command_parses(command: str) -> None:
    """click takes the verb and its options."""
    verb, *options = shlex.split(command)[1:]
    if not verb.startswith("-"):
        importlib.import_module(f"pipeline.cli.{verb}").command.make_context(verb, options)


@pytest.mark.parametrize("command", commands("luigi"))
def test_a_luigi_command_parses(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """luigi finds the module, the task and its parameters, and what it makes of them has the type declared."""
    monkeypatch.setenv("SOT_PATH", str(tmp_path))
    monkeypatch.setenv("WAREHOUSE_PATH", str(tmp_path))
    get_settings.cache_clear()
    try:
        with CmdlineParser.global_instance(shlex.split(command)[1:]) as parser:
            task = parser.get_task_obj()
    finally:
        get_settings.cache_clear()
    assert isinstance(task.processing_date, date)
    assert task.window_days == 195


def test_both_programs_are_shown() -> None:
    """A change of README's form does not make the tests above look at nothing."""
    assert len(commands("sot-ingest")) >= 5
    assert len(commands("luigi")) >= 2
    assert len(QUERIES) >= 2


def test_every_command_is_documented() -> None:
    """README has an example of each verb that --help lists, and of no other."""
    documented = {shlex.split(command)[1] for command in commands("sot-ingest")}
    assert {verb for verb in documented if not verb.startswith("-")} == set(VERBS)


def test_the_commands_are_installed() -> None:
    """Both programs answer --help from where the environment has them."""
    for command in ("sot-ingest", "luigi"):
        done = subprocess.run([COMMANDS / command, "--help"], capture_output=True, text=True, check=True)
        assert "--help" in done.stdout


def test_every_documented_path_exists() -> None:
    """Scripts and modules that README names are there, and every script is named."""
    for path in re.findall(r"\./(scripts/[\w-]+)", README):
        assert (ROOT / path).stat().st_mode & 0o100
    layout = README.split("## Where things live")[1].split("```")[1]
    for name in re.findall(r"\b[\w/]+\.py\b", layout):
        assert (ROOT / "pipeline" / name).exists(), name
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.suffix != ".sh"}
    assert [name for name in scripts if name not in layout] == []


# The queries and the grants


@dataclass(frozen=True)
class Warehouse:
    """Servers with what README promises on them: databases are named as README names them, so it is our own server."""

    server: OwnClickHouse
    source: Path  #: both days; the second has a key that stands twice
    directory: Path

    def deployment(self, user: str) -> Deployment:
        """Return a deployment that logs in as this user."""
        reader = ServerReader(self.server, "", (NETWORK,))
        login = {"CLICKHOUSE_USER": user, "CLICKHOUSE_PASSWORD": self.server.users[user].password}
        return Deployment(in_directory(self.source), reader, self.directory / user, login)


@pytest.fixture
def warehouse(own_clickhouse: Callable[..., OwnClickHouse], samples: Path, tmp_path: Path) -> Callable[..., Warehouse]:
    """Start a server with users and their grants."""

    def start(**grants: list[str]) -> Warehouse:
        source = tmp_path / "bucket"
        shutil.copytree(samples, source)
        SnapshotFiles(source, OTHER_DAY).duplicate_row("raw_features")
        users = {name: User(f"{name}'s", tuple(without_grantee(grants[name]))) for name in grants}
        return Warehouse(own_clickhouse(users=users), source, tmp_path)

    return start


def without_grantee(grants: list[str]) -> list[str]:
    """Return grants as a server's configuration takes them."""
    return [re.sub(r" TO \w+$", "", grant) for grant in grants]


def single_grants() -> list[str]:
    """Return the pipeline's grants, one privilege each."""
    single = []
    for grant in GRANTS:
        privileges, where = re.fullmatch(r"GRANT (.*) ON (\S+ TO \w+)", grant).groups()  # type: ignore[union-attr]
        single += [f"GRANT {each} ON {where}" for each in re.split(r", (?![^(]*\))", privileges)]
    return single


def every_verb(date: str = "2025-08-01") -> dict[str, list[str]]:
    """Return commands of every verb, by what they are for, with the refused day between them."""
    day, other = selection(DAY), selection(OTHER_DAY)
    return {
        "run": ["run", *day],
        "run, refused": ["run", *other],
        "plan": ["plan", *other],
        "rerun": ["rerun", *day, "--yes", "--table", "raw_clusters"],
        "verify": ["verify", "--date", date, "--deep"],
        "rollback": ["rollback", *day, "--yes"],
        "audit": ["audit", "--date", date],
        "accept": ["accept", *day, "--reason", "none"],
        "diff": ["diff", *day],
        "gc": ["gc", "--keep-versions", "1", "--keep-days", "1", "--yes"],
        "backfill": ["backfill", "--from", "2025-07-31", "--to", "2025-07-31"],
        "status": ["status", "--date", date, "--days", "1"],
        "history": ["history", "--date", date],
        "report": ["report", "--json", "--days", "3000"],
        "check": ["check"],
        "unblock": ["unblock"],
        "wait": ["wait", "--date", date],
        "schedule": ["schedule", "--crontab", str(ROOT / "docker" / "crontab")],
        "notify": ["notify", "a title"],
        "doctor": ["doctor", "--json"],
        "serve": ["serve", "--host", "0.0.0.0"],  # which needs a token  # noqa: S104
    }


def test_the_grants_are_enough(warehouse: Callable[..., Warehouse]) -> None:
    """A user with them uses every verb, and the server refuses nothing, silently neither; a database may be there."""
    given = [grant.replace("CREATE DATABASE, ", "").replace(f" {NETWORK}.", " given.") for grant in GRANTS]
    made = warehouse(granted=GRANTS, given=given)
    made.server.http("CREATE DATABASE given")
    login = {"CLICKHOUSE_USER": "given", "CLICKHOUSE_PASSWORD": made.server.users["given"].password}
    reader = ServerReader(made.server, "", (NETWORK,))
    there = {**login, "TORUS_CLICKHOUSE_DATABASE": "given"}
    _, context = in_process(made.source, reader, made.directory / "given", **there)
    ensure_schema(context.warehouse(NETWORK))

    commands = every_verb()
    deployment = made.deployment("granted")
    deployment.variables["INGESTION_NETWORKS"] = NETWORK
    ended = {name: deployment.command("sot-ingest", *in_json(command)) for name, command in commands.items()}
    assert {command[0] for command in commands.values()} == set(VERBS)
    assert {name: result.exit_code for name, result in ended.items() if result.exit_code} == {
        "run, refused": exit_codes.TASK_FAILED,
        "backfill": exit_codes.MISSING,
        "audit": exit_codes.FINDINGS,  # warnings: the values of samples are random
        "accept": exit_codes.CONFIG,
        "check": exit_codes.FINDINGS,
        "wait": exit_codes.MISSING,
        "unblock": exit_codes.LUIGI,
        "notify": exit_codes.CONFIG,
        "serve": exit_codes.CONFIG,
    }
    for name, result in ended.items():
        assert_documented(name, result)
    assert "repeat a key" in ended["run, refused"].errors()[0]["message"]
    count = f"SELECT count() FROM {NETWORK}.raw_features_loads"
    assert made.server.http(f"{count} WHERE processing_date = '{OTHER_DAY.processing_date}'") == "0\n"
    assert made.server.http(f"SELECT uniqExact(step) > 5 FROM {NETWORK}.sot_steps") == "1\n"
    assert made.server.http("SELECT sum(value) FROM system.errors WHERE name = 'ACCESS_DENIED'") == "0\n"


def in_json(command: list[str]) -> list[str]:
    """Return a verb's command with --json, if it knows that."""
    return [*command, "--json"] if f"{command[0]}.json" in schemas() and "--json" not in command else command


def assert_documented(command: str, result: Result) -> None:
    """Compare what a verb prints and logs with docs/json."""
    verb = command.partition(",")[0]
    for event in result.log():
        assert mistakes("log", event) == [], command
        if event["message"].startswith("Run ended"):
            assert mistakes("run-ended", event) == [], command
    if f"{verb}.json" in schemas():
        printed = json.loads(result.stdout)
        schema = "error" if isinstance(printed, dict) and "errors" in printed else verb
        assert mistakes(schema, printed) == [], command


def test_no_grant_is_too_many(warehouse: Callable[..., Warehouse]) -> None:
    """Without any one of them something is refused, and the log names the grant."""
    grants = single_grants()
    assert len(grants) == 9
    users = {f"without_{number}": [g for g in grants if g != grant] for number, grant in enumerate(grants)}
    made = warehouse(**users)
    for user, left_out in zip(users, grants, strict=True):
        if "COMMENT" in left_out:  # needed where an earlier version made a table
            made.server.http(f"CREATE DATABASE {NETWORK}")
            made.server.http(schema_sql(LEDGER).replace("{database}", NETWORK))
        assert any("Not enough privileges" in message for message in said_to(made, user)), left_out
        made.server.http(f"DROP DATABASE IF EXISTS {NETWORK} SYNC")


def said_to(made: Warehouse, user: str) -> list[str]:
    """Return errors and warnings of an ingestion of both days, one of which is refused."""
    reader = ServerReader(made.server, "", (NETWORK,))
    login = {"CLICKHOUSE_USER": user, "CLICKHOUSE_PASSWORD": made.server.users[user].password}
    _, context = in_process(made.source, reader, made.directory / user, **login)
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    for day in (DAY, OTHER_DAY):
        try:
            ingest(context, day)
        except PipelineError as error:
            said.append(str(error))
    logger.remove(sink)
    return said


def is_refused(server: OwnClickHouse, statement: str, user: str) -> bool:
    """Tell whether a user lacks the right to a statement."""
    try:
        server.http(statement, user=user, password=server.users[user].password)
    except ClickHouseError as error:
        return "Not enough privileges" in str(error)
    return False


def test_the_queries_answer(warehouse: Callable[..., Warehouse]) -> None:
    """Every SELECT in README and docs runs against an ingested day and finds rows, with what analysts are granted.

    What tells of loads and steps is for those who may read all. Analysts need each of their grants. The pinned query
    gives the same answer after the day was published again.
    """
    without = {
        f"without_{number}": [each for each in ANALYSTS_GRANTS if each != grant]
        for number, grant in enumerate(ANALYSTS_GRANTS)
    }
    made = warehouse(granted=GRANTS, analyst=ANALYSTS_GRANTS, reader=[f"GRANT SELECT ON {NETWORK}.*"], **without)
    deployment = made.deployment("granted")
    assert deployment.run(DAY).exit_code == 0
    for query in QUERIES:
        user = "reader" if any(table in query for table in (LEDGER, STEPS, AUDITS)) else "analyst"
        assert made.server.http(query, user=user, password=f"{user}'s").strip()
        west = f"{query} SETTINGS session_timezone = 'America/New_York'"  # where it is earlier than in UTC
        assert made.server.http(west, user=user, password=f"{user}'s").strip()
    names = (f"{name}(at = now64(6))" if name.endswith("_as_of") else name for name in (*TABLE_VIEWS, *SUMMARIES))
    views = [f"SELECT count() FROM {NETWORK}.{name} WHERE NOT ignore(*)" for name in names]
    for view in views:
        assert int(made.server.http(view, user="analyst", password="analyst's")) > 0
    for user, grants in without.items():
        assert [view for view in views if is_refused(made.server, view, user)], grants
    for table in (LEDGER, AUDITS, STEPS, CLAIMS):
        assert is_refused(made.server, f"SELECT count() FROM {NETWORK}.{table}", "analyst")
    assert is_refused(made.server, f"INSERT INTO {NETWORK}.sot_publications (window_days) VALUES (1)", "analyst")
    (pinned,) = [query for query in QUERIES if "pinned" in query]
    ((moment,),) = made.server.execute("SELECT toString(now64(6, 'UTC'))")
    then = pinned.replace("now64(6)", f"toDateTime64('{moment}', 6, 'UTC')")
    before = sorted(made.server.http(then).splitlines())

    files = SnapshotFiles(made.source, DAY)
    files.delete_row("raw_alerts")
    assert deployment.command("sot-ingest", "run", *selection(DAY), *ALONE).exit_code == 0

    assert sorted(made.server.http(then).splitlines()) == before
    assert sorted(made.server.http(pinned).splitlines()) != before
    assert deployment.command("sot-ingest", "rollback", *selection(DAY), "--yes").exit_code == 0
    assert sorted(made.server.http(pinned).splitlines()) == before
