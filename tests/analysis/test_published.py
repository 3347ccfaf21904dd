"""Test the tables of our areas beside the paper's."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from acdc.analysis.published import CURVE, as_published, auc_table, comparison

PUBLISHED = pd.read_csv(
    io.StringIO("""# A comment.
task,metric,ablation,method,edge,node
reverse,own,corrupted,acdc,0.2,0.312
reverse,own,zero,acdc,1.0,0.9
reverse,kl_divergence,zero,acdc,0.7,0.6
"""),
    comment="#",
)


def curve(task="reverse", metric="l2", ablation="corrupted", known="published", level="edge", points=((0.0, 0.4),),
          known_of="model"):  # fmt: skip
    labels = dict(task=task, model="model", metric=metric, ablation=ablation, method="acdc", known=known, level=level)
    rows = [labels | {"known_of": known_of, "fpr": fpr, "tpr": tpr} for fpr, tpr in points]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, 0.2),
        ({"level": "original_node"}, 0.312),
        ({"ablation": "corrupted_permuted"}, 0.2),
        ({"ablation": "zero"}, 1.0),
        ({"task": "reverse_paper"}, 0.2),
        ({"ablation": "zero", "metric": "kl_divergence"}, 0.7),
        ({"metric": "kl_divergence"}, None),
        ({"metric": "output_difference"}, None),
        ({"level": "node"}, None),
        ({"known": "compiled"}, None),
        ({"known_of": "another"}, None),
        ({"task": "other"}, None),
    ],
)
def test_published_area_stands_where_the_paper_has_one(labels, expected):
    (row,) = auc_table(curve(**labels), PUBLISHED).to_dict("records")
    assert row["published"] == expected if expected else pd.isna(row["published"])
    assert (row["n_circuits"], row["auc"], row["auc_trapezoid"]) == (1, 0.4, pytest.approx(0.7))


def test_every_curve_is_a_row_in_the_tables_order_with_its_own_area():
    tables = [curve(level="original_node", points=((0, 0.1), (0, 0.3))), curve(ablation="zero", points=[(0.5, 1)])]
    found = auc_table(pd.concat(tables), PUBLISHED)
    assert list(found["auc"]) == [0.3, 0.5]
    assert list(found["n_circuits"]) == [2, 1]
    assert list(found["published"]) == [0.312, 1.0]


def test_labels_are_the_papers():
    found = as_published(curve("reverse_paper", "l2", "corrupted_permuted")).to_dict("records")
    assert found == [{"task": "reverse", "metric": "own", "ablation": "corrupted", "method": "acdc"}]


def test_the_papers_tables_have_its_numbers_beside_ours_where_it_has_some():
    rows = [
        ("ioi", "gpt2", "kl_divergence", "zero", "acdc", "published", "gpt2", "edge", 0.5, 0.539),
        ("ioi", "gpt2", "kl_divergence", "zero", "eap", "published", "gpt2", "edge", 0.75, None),
        ("ioi", "gpt2", "kl_divergence", "zero", "acdc", "published", "gpt2", "node", 0.1, None),
        ("ioi", "gpt2", "kl_divergence", "zero", "acdc", "published", "gpt2", "original_node", 0.25, 0.458),
        ("ioi", "gpt2", "kl_divergence", "corrupted", "acdc", "published", "gpt2", "edge", 0.9, 0.869),
    ]
    auc = pd.DataFrame(rows, columns=[*CURVE, "auc", "published"])
    compared = comparison(auc, "zero")
    assert list(compared) == ["task", "model", "known", "known_of", "metric", "level", "ACDC", "ACDC (paper)", "EAP"]
    edge, node = compared.to_dict("records")
    assert (edge["level"], edge["ACDC"], edge["ACDC (paper)"], edge["EAP"]) == ("edge", 0.5, 0.539, 0.75)
    assert (node["level"], node["ACDC"], node["ACDC (paper)"]) == ("node", 0.25, 0.458) and pd.isna(node["EAP"])
    with pytest.raises(ValueError, match="no area under mean ablation"):
        comparison(auc, "mean")
