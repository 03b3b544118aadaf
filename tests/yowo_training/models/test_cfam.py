"""Channel attention: the paper's equations, and both signs of its softmax."""

from __future__ import annotations

import pytest
import torch

from yowo_deploy.spec import AttentionSign
from yowo_training.models.cfam import GramAttention


@pytest.mark.parametrize("sign", ["paper", "release"])
def test_it_is_softmax_of_the_gram_matrix_times_the_features(sign: AttentionSign) -> None:
    torch.manual_seed(0)
    attention = GramAttention(sign)
    attention.gamma.data.fill_(0.7)
    features = torch.randn(2, 6, 3, 4)
    flat = features.reshape(2, 6, 12).double()
    gram = torch.stack([f @ f.T for f in flat]) * (1 if sign == "paper" else -1)
    weights = gram.exp() / gram.exp().sum(dim=2, keepdim=True)
    expected = 0.7 * (weights @ flat).reshape(features.shape) + features
    # float32 exponentials of logits up to 30
    torch.testing.assert_close(attention(features).double(), expected, atol=1e-4, rtol=1e-4)


def test_the_release_sign_is_the_rowmax_form_of_its_code() -> None:
    torch.manual_seed(1)
    features = torch.randn(1, 5, 4, 4)
    flat = features.flatten(2)
    gram = flat @ flat.transpose(1, 2)
    literal = (gram.amax(dim=2, keepdim=True) - gram).softmax(dim=2) @ flat
    attention = GramAttention("release")
    attention.gamma.data.fill_(1.0)
    torch.testing.assert_close(attention(features) - features, literal.reshape(features.shape), atol=1e-5, rtol=1e-5)


def test_a_fresh_one_changes_nothing() -> None:
    features = torch.randn(2, 4, 3, 3)
    assert torch.equal(GramAttention("paper")(features), features)


def test_logits_beyond_half_precision_do_not_break_it() -> None:
    attention = GramAttention("release")
    attention.gamma.data.fill_(1.0)
    features = torch.full((1, 3, 20, 20), 20.0, dtype=torch.bfloat16)  # G = 160,000, more than float16 holds
    with torch.autocast("cpu", torch.bfloat16):
        assert attention(features).isfinite().all()
