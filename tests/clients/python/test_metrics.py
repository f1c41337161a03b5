"""`/metrics`, read by Prometheus' own Python parser, before and after requests that end in different ways."""

import fal_client
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from processes import own_server
from support import ENDPOINT, small

KINDS = {
    "latentd_requests": "counter",
    "latentd_worker_restarts": "counter",
    "latentd_webhook_attempts": "counter",
    "latentd_safety_flagged": "counter",
    "latentd_queue_wait_seconds": "histogram",
    "latentd_inference_seconds": "histogram",
    "latentd_e2e_seconds": "histogram",
    "latentd_safety_score": "histogram",
    "latentd_queue_depth": "gauge",
    "latentd_requests_running": "gauge",
    "latentd_workers": "gauge",
    "latentd_build_info": "gauge",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("metrics")


def scrape(url):
    """Kinds by name, and values by name and labels."""
    response = httpx.get(f"{url}/metrics")
    assert response.status_code == 200
    families = list(text_string_to_metric_families(response.text))
    kinds = {family.name.removesuffix("_total"): family.type for family in families}
    samples = [sample for family in families for sample in family.samples]
    return kinds, {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


def ended(values, outcome):
    key = ("latentd_requests_total", ("endpoint", ENDPOINT), ("outcome", outcome))
    return values.get(key, 0)


def test_counters_count_requests_and_survive_a_restart(data, client_of):
    with own_server(data) as url:
        kinds, before = scrape(url)
        assert KINDS.items() <= kinds.items()
        client = client_of(url)
        client.subscribe(ENDPOINT, small())
        client.run(ENDPOINT, small())
        with pytest.raises(fal_client.FalClientHTTPError):
            client.run(ENDPOINT, small(num_images=-1))
        with pytest.raises(fal_client.FalClientHTTPError):
            client.subscribe(ENDPOINT, small(num_images=-1))
        kinds, after = scrape(url)
    assert kinds["latentd_rejected"] == "counter"
    assert ended(after, "succeeded") == ended(before, "succeeded") + 2
    assert ended(after, "invalid") == 1
    assert after[("latentd_rejected_total", ("reason", "invalid"))] == 1
    assert after[("latentd_e2e_seconds_count",)] == 2
    assert after[("latentd_inference_seconds_count", ("stage", "denoise"))] == 2
    assert after[("latentd_workers", ("state", "ready"))] == 1
    grown = [key for key in before if key[0].endswith(("_total", "_count", "_bucket"))]
    assert all(after[key] >= before[key] for key in grown)
    with own_server(data) as url:
        _, again = scrape(url)
    assert ended(again, "succeeded") == ended(after, "succeeded")
