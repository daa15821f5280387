"""benchmarks/thresholds.py: thresholds of few images by several rules."""

import sys

import numpy as np
import pytest

import thresholds

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("rule", thresholds.RULES.values(), ids=thresholds.RULES)
def test_every_rule_meets_its_rate_where_scores_are_many_and_log_normal(rule):
    drawn = np.exp(np.random.default_rng(0).normal(size=10_000))
    assert np.mean(drawn > rule(drawn)) == pytest.approx(thresholds.RATE, rel=0.2)


def test_a_table_of_all_rules(parts, extractor_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["thresholds.py", str(parts), "--extractor", str(extractor_path), "--threads", "1"]
    )
    monkeypatch.setattr(thresholds, "DRAWS", 2)
    thresholds.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == [*thresholds.RULES, *thresholds.RULES]
    for row in rows:
        assert all(0 <= float(share.rstrip(" |%")) <= 100 for share in row[2:])
