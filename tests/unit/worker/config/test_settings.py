from pathlib import Path

import pytest

from entrepot.errors import BadInput
from entrepot.language.limits import own_limits
from entrepot.worker.config import settings
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import PipelineSection, ScheduleSection, Section, TenantSection

FLIGHTS = 'flights = "acme.flights:flights"'
GOOD = """
[pipelines]
sales = "acme.sales:sales"

[tenants.acme]
backend = { type = "duckdb", path = "acme.duckdb" }
weight = 2

[tenants.acme.settings.sales]
schema = "shop"
parameters = { days = 30 }

[[tenants.acme.schedules]]
pipeline = "sales"
cron = "0 6 * * 1-5"
time_zone = "Europe/Zurich"

[[tenants.acme.schedules]]
pipeline = "sales"
environment = "pr_12"
every = "6h"
jitter = "5m"
"""


class Files:
    """Writes a tenant file and loads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, text: str) -> Settings:
        if "flight" in text and "pipelines" not in text.partition("[tenants")[0]:
            text = f"pipelines = {{ {FLIGHTS} }}\n{text}"
        (self.folder / "tenants.toml").write_text(text)
        return settings.load(str(self.folder / "tenants.toml"), str(self.folder / "state"))

    def problems(self, text: str) -> list[str]:
        with pytest.raises(BadInput) as error:
            self.load(text)
        heading, *lines = str(error.value).split("\n  ")
        assert heading == f"{self.folder}/tenants.toml has {len(lines)} problem{'s' if len(lines) > 1 else ''}:"
        return lines

    def problem(self, text: str) -> str:
        (only,) = self.problems(text)
        return only


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.delenv("ENTREPOT_TENANTS", raising=False)
    monkeypatch.delenv("ENTREPOT_STATE", raising=False)
    monkeypatch.chdir(tmp_path)
    return Files(tmp_path)


def tenant(lines: str, name: str = "acme") -> str:
    return f'[tenants.{name}]\nbackend = {{ type = "duckdb", path = "{name}.duckdb" }}\n{lines}\n'


def schedule(fields: str) -> str:
    return tenant(f"schedules = [{{ {fields} }}]")


def test_a_good_file(files: Files, tmp_path: Path) -> None:
    tenants = files.load(GOOD).connect()
    acme = tenants.get("acme")
    assert acme.backend_settings == {"type": "duckdb", "path": f"{tmp_path}/state/acme.duckdb"}
    assert acme.lake == f"{tmp_path}/state/lake/acme"
    assert acme.weight == 2.0
    assert (acme.settings("sales").schema, acme.settings("sales").parameters) == ("shop", {"days": 30})


def test_limits_of_steps_go_with_every_warehouse(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text(
        """[tenants.acme]
        backend = { type = "duckdb", path = "a.duckdb" }
        limits = { timeout = "2h", memory = "8GB", attempts = 3, backoff = "10s" }"""
    )
    found = settings.load(str(file), str(tmp_path)).connect().get("acme").step_limits
    assert found == own_limits("2h", "8GB", 3, "10s")


def test_a_tenant_without_pipelines_runs_every_known_one(files: Files) -> None:
    tenants = files.load(f'pipelines = {{ {FLIGHTS}, sales = "a:b" }}\n' + tenant("")).connect()
    assert set(tenants.get("acme").pipelines) == set(tenants.registry.references) > {"sales"}


@pytest.mark.parametrize(
    ("lines", "runs"),
    [
        ('settings.sales.schema = "shop"', {"flights", "sales"}),
        ('pipelines = ["sales"]', {"sales"}),
        ('pipelines = ["sales", "flights", "sales"]\nsettings.sales.schema = "shop"', {"sales", "flights"}),
    ],
)
def test_settings_of_one_pipeline_take_no_other_away(files: Files, lines: str, runs: set[str]) -> None:
    acme = files.load(f'pipelines = {{ {FLIGHTS}, sales = "a:b" }}\n' + tenant(lines)).connect().get("acme")
    assert {"flights", "sales"} & {*acme.pipelines} == runs
    assert acme.settings("sales").schema == ("shop" if "settings" in lines else "sales")


def test_absolute_paths_and_urls_stay(files: Files) -> None:
    text = '[tenants.acme]\nbackend = { type = "duckdb", path = "/data/a.duckdb" }\nlake = "s3://bucket/acme"'
    acme = files.load(text).connect().get("acme")
    assert (acme.backend_settings["path"], acme.lake) == ("/data/a.duckdb", "s3://bucket/acme")


def test_without_a_file_there_is_one_tenant(files: Files) -> None:
    loaded = settings.load()
    assert (loaded.file, list(loaded.tenants), settings.tenant_names()) == (None, ["local"], ["local"])
    assert loaded.connect().get("local").backend_settings["path"] == str(files.folder / ".entrepot/local.duckdb")


def test_the_file_is_found_in_the_folder_and_by_the_environment(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files.load(tenant(""))
    assert list(settings.load().tenants) == settings.tenant_names() == ["acme"]
    (files.folder / "other.toml").write_text(tenant("", "other"))
    monkeypatch.setenv("ENTREPOT_TENANTS", "other.toml")
    monkeypatch.setenv("ENTREPOT_STATE", "elsewhere")
    assert list(settings.load().tenants) == settings.tenant_names() == ["other"]
    assert settings.load().state == files.folder / "elsewhere"


def test_a_named_file_must_be_there(files: Files) -> None:
    for read in (settings.load, settings.tenant_names):
        with pytest.raises(BadInput, match=r"^there is no tenant file 'nope.toml'$"):
            read("nope.toml")


def test_a_folder_is_no_file(files: Files) -> None:
    with pytest.raises(BadInput, match=r"cannot read the tenant file .*: Is a directory"):
        settings.load(str(files.folder))


def test_bad_toml_says_the_line(files: Files) -> None:
    with pytest.raises(BadInput, match=r"tenants.toml is not valid TOML: .*line 2"):
        files.load("[tenants.acme]\nbackend = \nlake = 1")
    (files.folder / "tenants.toml").write_bytes(b'name = "Z\xfcrich"')
    with pytest.raises(BadInput, match=r"tenants.toml is not valid TOML: it is not UTF-8 text .*byte 9"):
        settings.load("tenants.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tenants is missing"),
        ("tenants = {}", "tenants: the file names no tenant; write a section such as [tenants.acme]"),
        ("tenants = 3", "tenants: must be a table, not 3"),
        ("tenants.acme = 3", "tenants.acme: must be a table, not 3"),
        ("[tenants.acme]", "tenants.acme.backend is missing"),
        ("colour = 1\n" + tenant(""), "the file: unknown setting 'colour'. Known: 'pipelines', 'smtp', 'tenants'"),
        (tenant("paralel = 2"), "tenants.acme: unknown setting 'paralel'; did you mean 'parallel'?"),
        (tenant('parallel = "2"'), "tenants.acme.parallel: must be a whole number, not '2'"),
        (tenant("parallel = 0"), "tenants.acme.parallel: Input should be greater than or equal to 1"),
        (tenant("weight = inf"), "tenants.acme.weight: Input should be a finite number"),
        (tenant('environments = ["prod", "Dev"]'), "tenants.acme.environments.1: 'Dev' is not a valid environment"),
        (tenant('environments = ["v"]'), "tenants.acme.environments.0: 'v' cannot be an environment: the schemas of"),
        (
            tenant('environments = ["1_*"]'),
            "tenants.acme.environments.0: '1_*' matches no valid environment: '1_a' cannot be",
        ),
        (
            tenant('lake = "ftp://me:geheim@host/acme"'),
            "tenants.acme.lake: has a password in it, which would stand in histories and the catalog; give a reference",
        ),
        (
            schedule('pipeline = "flights", every = "1h", parameters = { dsn = ["host=h password=geheim"] }'),
            "tenants.acme.schedules[0].parameters.dsn[0]: has a password in it",
        ),
        (tenant("", "Acme"), "tenants.Acme: a tenant's name has up to 63 lower-case letters"),
        ('[tenants."a/b"]\nbackend = { type = "duckdb", path = "x" }', "tenants.a/b: a tenant's name has"),
        (tenant("", "a" * 64), "a tenant's name has up to 63"),
        (
            'pipelines = { sales = "no ref" }\n' + tenant(""),
            "pipelines.sales: 'no ref' is not a pipeline reference: write 'module:object'",
        ),
        ('pipelines = { Sales = "a:b" }\n' + tenant(""), "pipelines.Sales: 'Sales' is not a valid name"),
        (
            tenant('pipelines = ["flightz"]'),
            "tenants.acme.pipelines: unknown pipeline 'flightz'; did you mean 'flights'?",
        ),
        (
            tenant("[tenants.acme.pipelines.flights]"),
            "must be a list of names, such as ['shop']; a pipeline's settings stand in [tenants.acme.settings.flights]",
        ),
        (tenant("pipelines = []"), "tenants.acme.pipelines: names no pipeline; leave it out for every known one"),
        (
            tenant('pipelines = ["acme.flights:flights"]'),
            "tenants.acme.pipelines: 'acme.flights:flights' is no name; give it one under [pipelines], and write that",
        ),
        (tenant("settings.flightz = {}"), "tenants.acme.settings: unknown pipeline 'flightz'; did you mean 'flights'?"),
        (
            f'pipelines = {{ {FLIGHTS}, sales = "a:b" }}\n' + tenant('pipelines = ["flights"]\nsettings.sales = {}'),
            "tenants.acme.settings.sales: the tenant does not run 'sales'; add it to its `pipelines`",
        ),
        (
            'pipelines = ["acme.flights:flights"]\n' + tenant(""),
            'pipelines: must be a table of names and where each pipeline is, such as shop = "acme.shop:shop"',
        ),
        (
            tenant("settings.flights = { scema = 1 }"),
            "tenants.acme.settings.flights: unknown setting 'scema'; did you mean 'schema'?",
        ),
        (
            tenant('settings.flights = { schema = "a b" }'),
            "tenants.acme.settings.flights.schema: 'a b' is not a valid name",
        ),
        (tenant('settings.flights = { schema = "entrepot" }'), "holds Entrepot's own tables"),
        (
            tenant('limits = { bytes_per_stp = "1GB" }'),
            "tenants.acme.limits: unknown setting 'bytes_per_stp'; did you mean 'bytes_per_step'",
        ),
        (
            tenant('limits = { bytes_per_run = "1XB" }'),
            "tenants.acme.limits.bytes_per_run: '1XB' is not a valid size: write a number and KB, MB, GB or",
        ),
        (tenant("limits = { bytes_per_run = -1 }"), "limits.bytes_per_run: -1 is not a valid size"),
        *[
            (
                tenant(f"limits = {{ bytes_per_run = {no!r} }}"),
                f"bytes_per_run: {no!r} is not a valid size",
            )
            for no in ("1,000GB", "500GB x", "500GB per day", "500", 500, "0GB", "0.1B", "GB", "-1GB", "1e3GB")
        ],
        (tenant("settings.flights = { parameters = 3 }"), "settings.flights.parameters: must be a table, not 3"),
        (tenant("settings.flights = { parameters = { on = 2020-01-01 } }"), "parameter 'on' must be text, a number"),
        (tenant("settings.flights = { parameters = { x = nan } }"), "parameter 'x' must be text, a number"),
        ('[tenants.acme]\nbackend = { path = "a" }', "tenants.acme.backend: `type` is missing. Known: 'b"),
        ('[tenants.acme]\nbackend = { type = "duck" }', "tenants.acme.backend: unknown backend type 'duck'"),
        ('[tenants.acme]\nbackend = { type = "duckdb" }', "tenants.acme.backend: a duckdb backend needs 'path'"),
        (
            '[tenants.acme]\nbackend = { type = "duckdb", path = "a", thread = 1 }',
            "tenants.acme.backend: unknown setting of a duckdb backend 'thread'; did you mean 'threads'?",
        ),
        (
            f'pipelines = {{ {FLIGHTS}, sales = "a:b" }}\n'
            + tenant('settings = { flights = { schema = "sales" }, sales = {} }'),
            "tenants.acme.settings: 'flights', 'sales' have the same schema 'sales'",
        ),
        (tenant("schedules = 3"), "tenants.acme.schedules: write each as [[tenants.acme.schedules]]"),
        (tenant("schedules = [3]"), "tenants.acme.schedules[0]: must be a table, not 3"),
        (schedule('every = "1h"'), "tenants.acme.schedules[0].pipeline is missing"),
        (schedule('pipeline = "flights"'), "tenants.acme.schedules[0]: a schedule has either `cron` or `every`"),
        (schedule('pipeline = "flights", cron = "@daily", every = "1h"'), "a schedule has either `cron` or `every`"),
        (
            schedule('pipeline = "flights", cron = "0 25 * * *"'),
            "schedules[0].cron: '0 25 * * *' is not a valid cron expression",
        ),
        (schedule('pipeline = "flights", every = "1 hour"'), "schedules[0].every: '1 hour' is not a valid duration"),
        (schedule('pipeline = "flights", every = "0s"'), "schedules[0].every: '0s' is not a valid duration"),
        (schedule('pipeline = "flights", every = "9999d"'), "schedules[0].every: '9999d' is longer than ten years"),
        (
            schedule('pipeline = "flights", every = "1h", jitter = 5'),
            "schedules[0].jitter: must be text in quotes, not 5",
        ),
        (schedule('pipeline = "flights", every = "1h", catch_up = "9s"'), "catch_up: '9s' is too short"),
        (schedule('pipeline = "flights", every = "1h", time_zone = "UTC"'), "`time_zone` goes with `cron`"),
        (
            schedule('pipeline = "flights", cron = "@daily", time_zone = "Europe/Zürich"'),
            "schedules[0].time_zone: unknown time zone 'Europe/Zürich'; did you mean 'Europe/Zurich'",
        ),
        (
            schedule('pipeline = "flights", every = "1h", overlap = "Skip"'),
            "schedules[0].overlap: unknown overlap policy 'Skip'; did you mean 'skip'?",
        ),
        (schedule('pipeline = "flights", every = "1h", paused = "no"'), "paused: must be true or false, not 'no'"),
        (schedule('pipeline = "flights", every = "1h", parameters = ["a"]'), "parameters: must be a table, not ['a']"),
        (
            schedule('pipeline = "flightz", every = "1h"'),
            "schedules[0]: unknown pipeline 'flightz'; did you mean 'flights'?",
        ),
        (
            schedule('pipeline = "flights", every = "1h", environment = "stage"'),
            "schedules[0]: unknown environment 'stage'. Known: 'dev', 'pr_*', 'prod'",
        ),
        (
            schedule('pipeline = "flights", every = "1h", environment = "pr_"'),
            "schedules[0].environment: 'pr_' cannot be an environment: use at most 40 lower-case letters",
        ),
    ],
)
def test_says_what_is_wrong_and_where(files: Files, text: str, said: str) -> None:
    assert said in files.problem(text)


def test_a_schedule_needs_a_pipeline_that_the_tenant_runs(files: Files) -> None:
    text = (
        f'pipelines = {{ {FLIGHTS}, sales = "a:b" }}\n'
        + schedule('pipeline = "sales", every = "1h"')
        + 'pipelines = ["flights"]'
    )
    assert files.problem(text) == "tenants.acme.schedules[0]: unknown pipeline 'sales'. Known: 'flights'"


def test_schedules_of_one_pipeline_need_names(files: Files) -> None:
    one, two = 'pipeline = "flights", every = "1h"', 'pipeline = "flights", cron = "@daily"'
    problems = files.problems(tenant(f"schedules = [{{ {one} }}, {{ {two} }}]"))
    assert (
        problems[1]
        == "tenants.acme.schedules[1]: 'flights' has another schedule in 'prod'; give each a `name` of its own"
    )
    assert files.load(tenant(f'schedules = [{{ {one} }}, {{ {two}, name = "daily" }}]'))


@pytest.mark.parametrize(
    ("acme", "globex", "said"),
    [
        ('path = "x.duckdb" }', 'path = "./x.duckdb" }', "has the same file as tenant 'acme'"),
        ('path = "x.duckdb" }', 'path = "../state/x.duckdb" }', "has the same file as tenant 'acme'"),
        ('path = "a" }\nlake = "one"', 'path = "b" }\nlake = "one/"', "has the same lake as tenant 'acme'"),
        ('path = "a" }\nlake = "s3://b/x"', 'path = "b" }\nlake = "s3://b/x/"', "has the same lake as tenant 'acme'"),
        ('path = "a" }\nlake = "lake/globex/x"', 'path = "b" }', "and that of tenant 'acme' are one inside the other"),
        ('path = "a" }\nlake = "s3://b"', 'path = "b" }\nlake = "s3://b/g"', "are one inside the other"),
    ],
)
def test_tenants_share_no_place(files: Files, acme: str, globex: str, said: str) -> None:
    text = "".join(
        f'[tenants.{name}]\nbackend = {{ type = "duckdb", {rest}\n'
        for name, rest in (("acme", acme), ("globex", globex))
    )
    assert said in files.problem(text)


def test_a_link_does_not_hide_a_shared_file(files: Files) -> None:
    (files.folder / "state").mkdir()
    (files.folder / "state/globex.duckdb").symlink_to(files.folder / "state/acme.duckdb")
    assert "has the same file as tenant 'acme'" in files.problem(tenant("") + tenant("", "globex"))


def test_everything_is_said_at_once(files: Files) -> None:
    text = (
        'colour = 1\npipelines = { other = "?" }\n'
        + tenant(
            'weight = "x"\nschedules = [{ pipeline = "flights" }, { pipeline = "flights", every = "5x", jitter = 3 }]'
        )
        + tenant('schedules = [{ pipeline = "flightz", every = "1h" }]', "globex")
        + '[tenants.third]\nbackend = { type = "duckdb", path = "globex.duckdb" }\n'
    )
    places = [line.split(" ")[0].rstrip(":") for line in files.problems(text)]
    assert places == [
        "pipelines.other",
        "the",
        "tenants.acme.schedules[0]",
        "tenants.acme.schedules[1].every",
        "tenants.acme.schedules[1].jitter",
        "tenants.acme.weight",
        "tenants.globex.schedules[0]",
        "tenants.third",
    ]


def test_names_are_read_without_judging_the_rest(files: Files) -> None:
    (files.folder / "tenants.toml").write_text('[tenants.acme]\nbackend = "?"\n[tenants.b]\n')
    assert settings.tenant_names() == ["acme", "b"]
    (files.folder / "tenants.toml").write_text("tenants = 3")
    assert settings.tenant_names() == []


def test_the_example_is_good() -> None:
    loaded = settings.load(str(Path(__file__).parents[4] / "examples/tenants.toml"))
    assert len(loaded.tenants) == 2
    assert {bool(s.cron) for t in loaded.tenants.values() for s in t.schedules} == {True, False}


@pytest.mark.parametrize("section", [TenantSection, PipelineSection, ScheduleSection])
def test_every_setting_is_documented(section: type[Section]) -> None:
    text = (Path(__file__).parents[4] / "docs/tenants.md").read_text()
    names = {field.alias or name for name, field in section.model_fields.items()} - {"schedules"}
    assert {name for name in names if f"| `{name}` |" not in text} == set()
