"""The endpoints of the models, with their defaults, by fal_client."""

import fal_client
import pytest
import wire
from support import ENDPOINT, check_output, small, steps

MEDIUM = "fal-ai/stable-diffusion-v35-medium"

INPUT = {name: value for name, value in small().items() if name != "num_inference_steps"}


@pytest.mark.parametrize("endpoint,count", [(ENDPOINT, 28), (f"{ENDPOINT}/turbo", 4), (MEDIUM, 40)])
def test_an_endpoint_has_its_own_default_steps(endpoint, count):
    logs = []

    def on_update(update):
        logs.extend(getattr(update, "logs", None) or [])

    check_output(fal_client.subscribe(endpoint, INPUT, with_logs=True, on_queue_update=on_update))
    assert steps(logs)[-1] == count
    assert any(log["message"].startswith(f"step {count}/{count} ") for log in logs)
    (submit,) = wire.calls("POST", f"{endpoint}$")
    assert "num_inference_steps" not in submit["body"]


def test_turbo_by_its_path_and_medium_in_a_stream():
    check_output(fal_client.run(ENDPOINT, INPUT, path="/turbo"))
    *_, result = fal_client.stream(MEDIUM, INPUT)
    check_output(result)


def test_medium_has_its_own_limits_and_no_image_to_image():
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        fal_client.subscribe(MEDIUM, INPUT | {"guidance_scale": 20.5})
    (problem,) = error.value.response.json()["detail"]
    assert problem["loc"] == ["body", "guidance_scale"] and problem["ctx"] == {"le": 20}
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        fal_client.run(MEDIUM, INPUT, path="/image-to-image")
    assert error.value.status_code == 404
