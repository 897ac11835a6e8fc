"""InfoGAN's information term: codes, the bound, and what its losses are made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from baselines import nsgan
from baselines.gan import DataSpec
from baselines.infogan_mi import code_of, d, g, infogan_mi, information

K, N = 4, 2


def test_codes_are_a_class_and_numbers_beside_the_noise() -> None:
    draw = {"z": torch.randn(5, 3), "class": torch.tensor([[0.0], [0.24], [0.26], [0.99], [1.0]])}
    draw["continuous"] = torch.rand(5, N)
    chosen, code = code_of(draw, K)
    assert chosen.tolist() == [0, 0, 1, 3, 3]
    assert torch.equal(code, torch.cat([draw["z"], F.one_hot(chosen, K).float(), draw["continuous"]], 1))


def test_the_bound_is_the_log_likelihood_of_the_code() -> None:
    guess, numbers = torch.randn(6, K + 2 * N), torch.rand(6, N) * 2 - 1
    chosen = torch.tensor([0, 1, 2, 3, 0, 1])
    of_class, of_numbers = information(guess, chosen, numbers, K)
    q = torch.distributions.Categorical(logits=guess[:, :K])
    torch.testing.assert_close(of_class, q.log_prob(chosen).mean())
    p = torch.distributions.Normal(guess[:, K : K + N], guess[:, K + N :].exp())
    torch.testing.assert_close(of_numbers, p.log_prob(numbers).sum(1).mean())


def test_losses_are_those_of_nsgan_less_the_bound() -> None:
    """Equation 6. With weights of 0 they are those of ``nsgan``."""
    logit, guess = torch.randn(6), torch.randn(6, K + 2 * N)
    nets = {"gen": lambda code: code, "disc": lambda images: (logit, guess)}
    plain = {"gen": lambda code: code, "disc": lambda images: logit}
    draw = {"z": torch.randn(6, 3), "class": torch.rand(6, 1), "continuous": torch.rand(6, N)}
    batch = {"image": torch.zeros(6)}
    chosen, _ = code_of(draw, K)
    of_class, of_numbers = information(guess, chosen, draw["continuous"], K)
    for loss, base in ((d, nsgan.d), (g, nsgan.g)):
        expected = base(plain, batch, draw)[0] - 0.5 * of_class - 0.25 * of_numbers  # type: ignore[operator]
        found, logs = loss(nets, batch, draw, n_codes=K, weight=0.5, continuous_weight=0.25)  # type: ignore[operator]
        torch.testing.assert_close(found, expected)
    _, logs = d(nets, batch, draw, n_codes=K, weight=1.0, continuous_weight=0.1)  # type: ignore[arg-type]
    assert logs["code_acc"].item() == pytest.approx((guess[:, :K].argmax(1) == chosen).float().mean().item())


def test_q_shares_all_of_d_but_the_last_layer() -> None:
    for net in ("mlp", "conv", "infogan"):
        disc = infogan_mi(DataSpec(1, 8, 8), net=net).build()["disc"]
        logit, guess = disc(torch.randn(3, 1, 8, 8))
        assert (logit.shape, guess.shape) == ((3,), (3, 10 + 2 * 2))
        assert disc.source.in_features == disc.guess.in_features
