"""A test that fails over a hostile message is told, not the end of the run."""

import pytest


def test_half_a_surrogate_in_a_failure_travels_between_workers(pytestconfig):
    report = pytest.TestReport("file::test", ("file", 1, "test"), {}, "failed", "a\ud800b", "call")
    told = pytestconfig.hook.pytest_report_to_serializable(config=pytestconfig, report=report)
    assert told["longrepr"].encode() == rb"a\ud800b" and told["location"] == ("file", 1, "test")
