"""A team of one does what no team does; what two do is tested with the loop, in two processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from yowo_deploy.errors import InputError
from yowo_training.distributed import Team, join_team, mean_of, share_statistics


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Team]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield Team()
    distributed.destroy_process_group()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(5), nn.BatchNorm3d(5, eps=1e-3, momentum=0.01)])
@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (1000.0, 1.0), (-3.0, 100.0)])
def test_a_shared_norm_is_the_plain_one(alone: Team, norm: nn.Module, mean: float, spread: float) -> None:
    torch.manual_seed(0)
    plain, other = nn.Sequential(norm), nn.Sequential(type(norm)(5, norm.eps, norm.momentum))
    other.load_state_dict(plain.state_dict())
    share_statistics(other)
    shape = (4, 5, 6, 7) if isinstance(norm, nn.BatchNorm2d) else (4, 5, 3, 6, 7)
    first = (mean + spread * torch.randn(shape)).requires_grad_()
    second = first.detach().clone().requires_grad_()
    weights = torch.randn(shape)
    for network, x in ((plain, first), (other, second)):
        network.train()
        (network(x) * weights).sum().backward()
    assert first.grad is not None and second.grad is not None
    # Two ways to the mean of 200 float32 numbers of that size, and a division by their spread.
    tolerance = 1e-5 * (1 + abs(mean) / spread)
    torch.testing.assert_close(other(second), plain(first), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(second.grad, first.grad, atol=tolerance, rtol=tolerance)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=tolerance, rtol=1e-4)
    plain.eval(), other.eval()
    torch.testing.assert_close(other(second), plain(first), atol=tolerance, rtol=1e-4)


def test_a_shared_norm_keeps_the_type_of_what_it_is_given(alone: Team) -> None:
    network = nn.Sequential(nn.BatchNorm2d(5)).train()
    share_statistics(network)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(300 * torch.randn(4, 5, 6, 6).bfloat16())
    assert found.dtype == torch.bfloat16 and found.isfinite().all()


def test_without_torchrun_there_is_no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    device, team = join_team("cpu")
    assert (device.type, team.rank, team.size, team.leads) == ("cpu", 0, 1, True)
    assert mean_of(3.5, team, device) == 3.5
    team.agree(7, "anything")


def test_a_certain_gpu_is_refused_in_a_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="a GPU of its own: --device cuda, not cuda:1"):
        join_team("cuda:1")


def test_half_of_what_torchrun_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE is set and RANK, MASTER_ADDR, MASTER_PORT not"):
        join_team("cpu")
