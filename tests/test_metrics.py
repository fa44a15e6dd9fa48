"""What Ray exports of a run, and the dashboard that asks for it."""

import json
import re
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
import ray
from ray.util.metrics import Metric

from chameleon_ray import tune
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.metrics import RunMetrics, Standing, name_of
from chameleon_ray.networks import network
from chameleon_ray.ray_access import guard_ray
from chameleon_ray.records import read_records
from chameleon_ray.results import HostStatus, LayerProgress

LAYERS = network("resnet18")[:2]
SAMPLE = re.compile(r"(ray_chameleon_\w+)\{(.*)\} (\S+)$")


@pytest.fixture
def told(monkeypatch):
    """What is told to Ray, as name, tags and value, instead of telling it."""
    found = []

    def note(self, value, tags=None):
        found.append((self._name, {k: v for k, v in tags.items() if k != "run"}, value))

    for kind in ("Counter.inc", "Gauge.set", "Histogram.observe"):
        monkeypatch.setattr(f"ray.util.metrics.{kind}", note)
    return found


def measured(layer, outcome=Outcome.OK):
    return Measurement(
        task=layer.task.key,
        config={},
        purpose=Purpose.SEARCH,
        outcome=outcome,
        repeat_seconds=(1.0,) if outcome is Outcome.OK else (),
        build_seconds=0.25,
        run_seconds=0.5,
    )


def test_a_batch_is_counted_once_for_each_layer_and_outcome(told):
    """One call of Ray for what is alike, not one for each measurement."""
    first, second = LAYERS
    batch = [measured(first)] * 5 + [measured(first, Outcome.CRASHED)] + [measured(second)] * 3
    RunMetrics("runs/mine", LAYERS, in_turns=True).recorded(batch)
    counts = {(tags["layer"], tags["outcome"]): value for _, tags, value in told}
    assert counts == {
        (name_of(first), "ok"): 5,
        (name_of(first), "crashed"): 1,
        (name_of(second), "ok"): 3,
    }
    assert len(told) == 3


def test_a_host_is_busy_with_what_its_jobs_took(told):
    """Building and running are told apart, and add up."""
    RunMetrics("runs/mine", LAYERS, in_turns=True).worked("cpu:0", [measured(LAYERS[0])] * 4)
    busy = {tags["doing"]: value for name, tags, value in told if name.endswith("busy_seconds")}
    assert busy == {"build": 1.0, "run": 2.0}
    assert [v for name, _, v in told if name.endswith("job_seconds")] == [0.75] * 4


def test_a_host_that_is_gone_has_no_places(told):
    """A gauge that nobody sets would keep its last value for ever."""
    host = HostStatus(name="cpu:0", places=8, in_hand=3, done=0, failed=0)
    row = LayerProgress(layer=LAYERS[0], trials=64, measurements=7)
    metrics = RunMetrics("runs/mine", LAYERS, in_turns=True)
    metrics.stands(Standing(waiting=5, hosts=[host], layers=[row]))
    values = {name.removeprefix("chameleon_"): value for name, _, value in told}
    assert values == {
        "waiting": 5,
        "places": 8,
        "devices": 1,  # its kernels are timed one at a time
        "in_hand": 3,
        "layer_measurements": 7,
    }
    told.clear()
    metrics.stands(Standing(waiting=0, hosts=[], layers=[]))
    assert {value for _, _, value in told} == {0}
    assert {tags["host"] for name, tags, _ in told if name != "chameleon_waiting"} == {"cpu:0"}


@pytest.fixture
def exporting():
    """A Ray that exports twice a second, as `ray[default]` makes it do; its metrics."""
    pytest.importorskip("aiohttp_cors", reason="needs `pip install 'ray[default]'`")
    guard_ray().init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=128 * 2**20,
        _system_config={"metrics_report_interval_ms": 500},
    )
    yield scraped
    ray.shutdown()


def scraped():
    """What Ray's agent tells Prometheus of us: name, tags and value."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
    except OSError:  # it is starting
        return []
    samples = [match.groups() for match in map(SAMPLE.match, text.splitlines()) if match]
    return [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', tags)), float(value))
        for name, tags, value in samples
    ]


@pytest.mark.ray
@pytest.mark.slow
def test_what_ray_exports_is_what_the_journal_holds(exporting, tmp_path):
    """Of a whole run, scraped as Prometheus does it: counts, busy seconds, best times."""
    env, run = tmp_path / "three.yaml", tmp_path / "run"
    env.write_text("measurer: simulated\ndevices: 3\nmeasurement_seconds: 0.1\n")
    names = {layer.task.key: name_of(layer) for layer in network("resnet18")}
    journal, latest, one_at_a_time = [], {}, threading.Lock()

    def samples(wanted):
        """The tags and values of a metric; Ray does not export a gauge each time."""
        return [(dict(tags), value) for (name, tags), value in latest.items() if name == wanted]

    def counted():
        return {
            (tags["layer"], tags["purpose"], tags["outcome"]): value
            for tags, value in samples("ray_chameleon_measurements_total")
        }

    def expected():
        return Counter((names[m.task], m.purpose.value, m.outcome.value) for m in journal)

    def look(progress):
        """At the end, while what counts is still there: until what is exported is up to date."""
        if not all(row.ended for row in progress.layers):
            return
        with one_at_a_time:
            journal[:] = [record.measurement for record in read_records(run)[0]]
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not (
                counted() == expected() and asked_for() <= {name for name, _ in latest}
            ):
                time.sleep(0.5)
                latest.update(((n, tuple(tags.items())), value) for n, tags, value in exporting())

    arguments = {"env": str(env), "policy": "random", "layers": [1, 2], "trials": 60}
    tune("resnet18", run=run, on_progress=look, **arguments)
    assert counted() == expected()
    assert len(journal) >= 120
    assert {dict(tags)["run"] for _, tags in latest} == {str(run)}
    busy = {tags["doing"]: value for tags, value in samples("ray_chameleon_busy_seconds_total")}
    assert busy["run"] == pytest.approx(sum(m.run_seconds for m in journal))
    assert busy["build"] == pytest.approx(sum(m.build_seconds for m in journal))
    assert [n for _, n in samples("ray_chameleon_job_seconds_count")] == [len(journal)]
    for gauge in ("places", "devices"):
        assert [value for _, value in samples(f"ray_chameleon_{gauge}")] == [3]
    bests = {tags["layer"] for tags, _ in samples("ray_chameleon_layer_best_seconds")}
    assert bests == {names[task] for task in {m.task for m in journal}}
    assert asked_for() <= {name for name, _ in latest}


DASHBOARD = Path(__file__).parent.parent / "clusters" / "grafana_dashboard.json"


def panels():
    """The panels of the dashboard that show something."""
    return json.loads(DASHBOARD.read_text())["panels"]


def queries():
    """What the dashboard asks Prometheus."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def asked_for():
    """The names of the metrics that the dashboard asks for."""
    return {name for query in queries() for name in re.findall(r"\bray_\w+", query)}


def exported_names():
    """What Ray makes of the names of our metrics."""
    metrics = vars(RunMetrics("runs/mine", LAYERS, in_turns=True)).values()
    names = set()
    for metric in (m for m in metrics if isinstance(m, Metric)):
        endings = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_count", "_sum"]}
        names |= {f"ray_{metric._name}{end}" for end in endings[type(metric).__name__]}
    return names


def test_the_dashboard_asks_for_what_is_exported():
    """Each metric of its queries exists, and each metric that exists is in a query."""
    assert asked_for() <= exported_names()
    unused = {name.removesuffix("_bucket") for name in exported_names() - asked_for()}
    assert all(name.endswith(("_count", "_sum")) for name in unused), unused


def test_the_page_names_each_metric_with_its_tags():
    """The table of docs/watching.md is what is exported."""
    page = (DASHBOARD.parent.parent / "docs" / "watching.md").read_text()
    rows = re.findall(r"^\| `ray_(chameleon_\w+?)(?:_total)?` \| (.*?) ?\|", page, re.MULTILINE)
    told = {name: {"run", *re.findall(r"`(\w+)`", tags)} for name, tags in rows}
    metrics = vars(RunMetrics("runs/mine", LAYERS, in_turns=True)).values()
    assert told == {m._name: set(m._tag_keys) for m in metrics if isinstance(m, Metric)}


def test_the_dashboard_asks_by_tags_that_exist():
    """Each label by which a query groups or chooses is a tag of its metrics."""
    metrics = vars(RunMetrics("runs/mine", LAYERS, in_turns=True)).values()
    tags = {f"ray_{m._name}": set(m._tag_keys) for m in metrics if isinstance(m, Metric)}
    for query in (part for whole in queries() for part in whole.split(" / ")):
        (own,) = (
            t for name, t in tags.items() if re.search(rf"\b{name}(_total|_bucket)?{{", query)
        )
        labels = set(re.findall(r"(\w+)=~", query))
        for group in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", query):
            labels |= {label.strip() for label in group.split(",")} - {"le"}
        assert labels <= own, query


def test_the_dashboard_is_one_that_grafana_takes():
    """It has what an import needs: a schema, a data source to choose, and panels that do not
    overlap."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["title"]
    assert dashboard["uid"]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    assert "ray_chameleon_measurements_total" in variables["run"]["query"]["query"]
    cells = []
    for panel in panels():
        place = panel["gridPos"]
        cells += [
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert place["x"] + place["w"] <= 24
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert 'run=~"$run"' in target["expr"]
            assert target["refId"]
    assert len(set(cells)) == len(cells)
    assert len({panel["id"] for panel in panels()}) == len(panels())
