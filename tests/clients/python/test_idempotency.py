"""Idempotency-Key: a request that fal_client repeats with the same key is the first request."""

import uuid

import fal_client
import pytest

from support import ENDPOINT, check_output, small


def submit(key, arguments):
    return fal_client.submit(ENDPOINT, arguments, headers={"Idempotency-Key": key})


def test_one_key_is_one_request():
    key = str(uuid.uuid4())
    first, second = submit(key, small()), submit(key, small())
    assert first.request_id == second.request_id
    assert first.status_url == second.status_url
    check_output(second.get())
    assert submit(key, small()).get() == first.get()


def test_another_input_is_refused():
    key = str(uuid.uuid4())
    submit(key, small())
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        submit(key, small(seed=8))
    assert refused.value.status_code == 422
    assert "idempotency-key" in str(refused.value)
