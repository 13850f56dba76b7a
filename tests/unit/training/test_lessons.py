"""What the trainers are fed, and that a stopped run goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from transformers import Qwen2Tokenizer  # noqa: E402

from danqing.judge.scenes import TASKS, draw_case  # noqa: E402
from danqing.judge.world import BACKGROUNDS, COLOURS, PLACES, SHAPES  # noqa: E402
from danqing.judge.world import SIZES as SIZES_OF_THINGS  # noqa: E402
from training.adopt import BLOCKS, adopt_words, deepened, match_words  # noqa: E402
from training.batches import CURRICULUM, SIZES, Codec, Lesson, Lessons, stage_at  # noqa: E402
from training.build import SHIFT, Shape, build_scheduler  # noqa: E402
from training.denoiser import (  # noqa: E402
    STATE,
    Run,
    flow_loss,
    rate_at,
    sample_times,
    total,
    train_denoiser,
)
from training.files import replace_folder  # noqa: E402
from training.labels import label  # noqa: E402
from training.muon import Muon  # noqa: E402
from training.tokenizer import build_tokenizer  # noqa: E402
from training.vae import Z_DIM, build_vae, random_picture, to_tensor  # noqa: E402

TINY = Shape(
    text_hidden=64, text_layers=1, layers=2, heads=1, head_dim=32, mlp_ratio=2, latent_channels=Z_DIM
)


def test_every_task_is_taught_in_the_end_and_no_task_is_unknown() -> None:
    assert set(stage_at(1.0).tasks) == set(TASKS)
    assert all(set(stage.tasks) <= set(TASKS) for stage in CURRICULUM)
    assert [stage.most for stage in CURRICULUM] == sorted(stage.most for stage in CURRICULUM)
    assert stage_at(1.0).most == 5


def test_every_size_that_is_taught_is_one_of_whole_slots() -> None:
    assert all(width % 32 == height % 32 == 0 for width, height in SIZES)
    aspects = {round(width / height, 2) for width, height in SIZES}
    assert aspects >= {1.0, 1.5, 0.67, 1.33, 0.75, 1.75, 0.57, 2.33}


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
    assert float(times.quantile(0.02)) < 0.2


def test_the_rate_rises_holds_and_falls() -> None:
    assert (
        rate_at(0.0, 0)
        < rate_at(0.1, 500)
        == rate_at(0.4, 4000)
        > rate_at(0.7, 7000)
        > rate_at(0.99, 9000)
        > 0
    )


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
    run.advance(total(flow_loss(run.student, lesson)), 1e-3)
    run.save(tmp_path / "state.pt")
    again = Run.start(tokenizer, TINY)
    again.load(tmp_path / "state.pt")
    assert again.step == 1
    for name, value in run.student.state_dict().items():
        assert torch.equal(value, again.student.state_dict()[name])


def test_a_channel_counts_by_what_it_changes_in_the_picture() -> None:
    torch.manual_seed(0)
    vae = build_vae()
    with torch.no_grad():
        vae.post_quant_conv.weight[:, 5:8] = 0
        vae.post_quant_conv.weight[:, 3] *= 10
    lessons = Lessons(build_tokenizer(), Codec(vae), 1)
    assert lessons.channels.shape == (Z_DIM,)
    assert float(lessons.channels.mean()) == pytest.approx(1, abs=1e-4)
    assert int(lessons.channels.argmax()) == 3
    assert not lessons.channels[5:8].any()


def test_an_error_costs_what_its_channel_counts() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    run = Run.start(tokenizer, TINY)
    lesson = Lessons(tokenizer, Codec(build_vae()), 1).draw(0.9)

    def cost(*counts: float) -> float:
        torch.manual_seed(1)
        channels = torch.zeros(Z_DIM)
        channels[: len(counts)] = torch.tensor(counts)
        with torch.no_grad():
            return float(flow_loss(run.student, replace(lesson, channels=channels))[0])

    first, second = cost(1), cost(0, 1)
    assert first != pytest.approx(second)
    assert cost(3, 0.5) == pytest.approx(3 * first + 0.5 * second, rel=1e-4)


def test_classes_say_what_stands_where() -> None:
    case = draw_case("text_to_image", 1_000_003, "en")
    tokens, whole = label(case)
    thing = case.truth_scene.things[0]
    across, down = PLACES[thing.place]
    at = int(down * 8) * 8 + int(across * 8)
    if thing.shape != "ring":
        assert tokens[at].tolist() == [
            1 + SHAPES.index(thing.shape),
            1 + list(COLOURS).index(thing.colour),
            1 + list(SIZES_OF_THINGS).index(thing.size),
        ]
    assert whole[0] == 1 + BACKGROUNDS.index(case.truth_scene.background)
    assert not whole[2:].any()
    _, whole = label(draw_case("sign_word", 1_000_003, "en"))
    assert whole[-1]


def test_words_keep_their_meaning_when_the_tokenizer_gains_words() -> None:
    old, new = Qwen2Tokenizer(vocab={"a": 0, "红": 1}, merges=[]), build_tokenizer()
    matched = {new.encode("a")[0]: 0}
    assert match_words(old, new).items() >= matched.items()
    name = "encoder.model.language_model.embed_tokens.weight"
    weights = {name: torch.ones(2, 3), "other": torch.zeros(1)}
    adopted = adopt_words(weights, {name: torch.zeros(len(new), 3)}, matched)
    assert adopted[name].sum() == 3
    assert adopted[name][next(iter(matched))].tolist() == [1, 1, 1]


def test_a_denoiser_with_more_blocks_begins_as_the_same_function() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    lesson = Lessons(tokenizer, Codec(build_vae()), 1).draw(0.9)
    run = Run.start(tokenizer, TINY)
    grown = Run.start(tokenizer, replace(TINY, layers=5))
    grown.adopt(deepened(run.average, 5))

    def cost(student: torch.nn.Module) -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(flow_loss(student, lesson)[0])

    assert cost(grown.student) == cost(run.student)
    grown.advance(total(flow_loss(grown.student, lesson)), 1e-3)
    for number in range(5):
        name = f"{BLOCKS}{number}.attn.to_out.0.weight"
        assert not torch.equal(grown.student.state_dict()[name], grown.average[name])
    with pytest.raises(ValueError, match="5 blocks"):
        deepened(grown.average, 2)


def test_a_run_that_goes_on_from_a_checkpoint_has_the_last_lessons(tmp_path: Path) -> None:
    asked: list[float] = []

    class Told(Lessons):
        def draw(self, done: float) -> Lesson:
            asked.append(done)
            return super().draw(done)

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    run = Run.start(tokenizer, TINY)
    lessons = Told(tokenizer, Codec(build_vae()), 1)
    run.since = 0.7
    train_denoiser(run, lessons, folder=tmp_path, minutes=0.02)
    assert asked[0] == 0.7
    assert asked == sorted(asked)
    again = Run.start(tokenizer, TINY)
    again.load(tmp_path / STATE)
    assert again.since == 0.7


def test_lessons_mix_sizes_languages_and_numbers_of_things() -> None:
    lessons = Lessons(build_tokenizer(), Codec(build_vae()), 1)
    said, layouts = set(), set()
    for _ in range(12):
        cases, layout = lessons._cases(1.0)
        layouts.add(tuple(layout))
        said |= {case.language for case in cases}
        assert all(case.size == layout[0] for case in cases)
    assert len(layouts) > 3
    assert said >= {"en", "zh"}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for text in ("old", "new"):
        with replace_folder(folder) as fresh:
            (fresh / text).write_text(text)
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_is_looked_at_while_it_goes_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    run = Run.start(tokenizer, TINY)
    seen: list[int] = []
    train_denoiser(
        run,
        Lessons(tokenizer, Codec(build_vae()), 1),
        folder=tmp_path,
        minutes=0.02,
        look=lambda run: seen.append(run.step),
        look_every=0.0,
    )
    assert seen == list(range(1, run.step + 1))
    assert (tmp_path / "state.pt").is_file()
