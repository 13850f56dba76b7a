"""What the trainers are fed, and that a stopped run goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from danqing.judge.rows import ROWS  # noqa: E402
from training.batches import CURRICULUM, Codec, Lessons, weights_at  # noqa: E402
from training.build import SHIFT, Shape, build_scheduler  # noqa: E402
from training.denoiser import Run, flow_loss, rate_at, sample_times  # noqa: E402
from training.files import replace_folder  # noqa: E402
from training.muon import Muon  # noqa: E402
from training.tokenizer import build_tokenizer  # noqa: E402
from training.vae import Z_DIM, build_vae, random_picture, to_tensor  # noqa: E402

TINY = Shape(
    text_hidden=64, text_layers=1, layers=2, heads=1, head_dim=32, mlp_ratio=2, latent_channels=Z_DIM
)


def test_every_row_is_taught_in_the_end_and_no_row_is_unknown() -> None:
    assert set(weights_at(1.0)) == set(ROWS)
    assert all(set(weights) <= set(ROWS) for _, weights in CURRICULUM)


def test_pictures_survive_the_way_into_the_autoencoders_range() -> None:
    picture = random_picture(np.random.default_rng(1), (96, 128))
    tensor = to_tensor([picture])
    assert tensor.shape == (1, 4, 1, 128, 96)
    back = ((tensor[0, :3, 0].permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert np.array_equal(back, picture)


def test_training_times_are_those_the_sampler_visits() -> None:
    torch.manual_seed(0)
    times = sample_times(500, 4).flatten()
    scheduler = build_scheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1, 0.05, 20), mu=SHIFT)
    assert float(times.max()) <= 1.0
    assert float(times.median()) >= float(scheduler.sigmas[:-1].median())


def test_the_rate_rises_holds_and_falls() -> None:
    assert rate_at(0.0, 0) < rate_at(0.1, 500) == rate_at(0.5, 5000) > rate_at(0.99, 9000) > 0


def test_muon_moves_matrices_and_kernels_by_steps_of_one_size() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(6, 4)), torch.nn.Parameter(torch.zeros(4, 2, 3, 3))]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 100
    Muon(parameters, lr=1.0, decay=0.0).step()
    for parameter in parameters:
        assert 0.1 < float(parameter.detach().square().mean().sqrt()) < 0.4


def test_a_lesson_can_be_learned_from_and_a_run_resumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    lessons = Lessons(tokenizer, Codec(build_vae()), 1)
    run = Run.start(tokenizer, TINY)
    lesson = lessons.draw(0.9)
    run.advance(flow_loss(run.student, lesson), 1e-3)
    run.save(tmp_path / "state.pt")
    again = Run.start(tokenizer, TINY)
    again.load(tmp_path / "state.pt")
    assert again.step == 1
    for name, value in run.student.state_dict().items():
        assert torch.equal(value, again.student.state_dict()[name])


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for text in ("old", "new"):
        with replace_folder(folder) as fresh:
            (fresh / text).write_text(text)
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
