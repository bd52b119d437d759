"""StyleGAN2: its networks by published counts, what it is trained with by hand calculation, and its fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import functional as T

from tests.support.interruptions import Interrupted, context_at
from workloads.core.config import content
from workloads.core.errors import ConfigError, DataError
from workloads.core.randomness import generator
from workloads.priors.adversarial import PublicBatches
from workloads.priors.stylegan2.layers import doubled, draw_all
from workloads.priors.stylegan2.networks import Critic, Generator, Shape, widths
from workloads.priors.stylegan2.prior import StyleGan2, StyleGan2Config
from workloads.priors.stylegan2.training import PathLengths, gradient_penalty, mixed_styles, move_average, path_lengths

SMALL: dict[str, Any] = {
    **{"latent_size": 4, "style_size": 6, "mapping_layers": 2, "channel_base": 40, "channel_max": 8},
    **{"steps": 12, "batch_size": 4, "r1_every": 2, "path_length_every": 2},
    **{"augmentation_target": 0.0, "augmentation_images": 100, "lr": 0.02},
}
IMAGES = torch.randint(256, (10, 3, 8, 8), generator=generator("test", "images"), dtype=torch.uint8)


def shape(size: int, *, base: int = 32768, most: int = 512, mapping_layers: int = 8) -> Shape:
    channels = widths(size, base=base, most=most)
    return Shape(
        channels=3,
        size=size,
        latent_size=512,
        style_size=512,
        mapping_layers=mapping_layers,
        widths=channels,
        clamp=None,
    )


def built(size: int = 8, **settings: Any) -> StyleGan2:
    return StyleGan2(StyleGan2Config(**{**SMALL, **settings}), channels=3, image_size=size, classes=1)


def prior(size: int = 8, **settings: Any) -> StyleGan2:
    """A prior in eval mode with every parameter drawn at random, so that none can be forgotten because it is zero."""
    gan = built(size, **settings)
    with torch.no_grad():
        for name, tensor in gan.state_dict().items():
            if tensor.is_floating_point() and not name.startswith(("augmentation.", "paths.")):
                tensor.copy_(torch.randn(tensor.shape, generator=generator("test", name)))
    return gan.eval().requires_grad_(False)


def latents(count: int = 3) -> Tensor:
    return torch.randn(count, SMALL["latent_size"], generator=generator("test", "latents"))


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def named(module: nn.Module, prefix: str) -> int:
    """How many numbers are learned under a name."""
    return sum(parameter.numel() for name, parameter in module.named_parameters() if name.startswith(prefix))


# Architecture


@pytest.mark.parametrize(("size", "layers"), [(8, 4), (32, 8), (64, 10), (512, 16), (1024, 18)])  # 2 log2(size) - 2
def test_an_image_has_so_many_styles(size: int, layers: int) -> None:
    with torch.device("meta"):
        assert Generator(shape(size)).layers == layers


def test_widths_at_1024_pixels_are_the_published_ones() -> None:
    assert widths(1024, base=32768, most=512) == (512, 512, 512, 512, 512, 256, 128, 64, 32)


def test_a_small_generator_has_the_parameters_counted_by_hand() -> None:
    mapping = (4 * 6 + 6) + (6 * 6 + 6)
    first = 8 * 16 + (6 * 8 + 8 + 8 * 8 * 9 + 8 + 1) + (6 * 8 + 8 + 3 * 8 + 3)
    enlarge = 6 * 8 + 8 + 5 * 8 * 9 + 5 + 1
    refine = 6 * 5 + 5 + 5 * 5 * 9 + 5 + 1
    colours = 6 * 5 + 5 + 3 * 5 + 3
    assert numbers(prior().average) == mapping + first + enlarge + refine + colours == 1665


def test_a_small_critic_has_the_parameters_counted_by_hand() -> None:
    block = (5 * 5 * 9 + 5) + (5 * 8 * 9 + 8) + 5 * 8
    last = (9 * 8 * 9 + 8) + (8 * 16 * 8 + 8) + (8 + 1)
    assert numbers(prior().critic) == (3 * 5 + 5) + block + last == 2355


# Of the tables that the authors' code prints, as in github.com/open-mmlab/mmgeneration/issues/394 (generator) and
# github.com/NVlabs/stylegan2-ada-pytorch/issues/181 (critic).
PUBLISHED_GENERATOR = {
    "mapping.layers.0.": 262656,
    "constant": 8192,
    "blocks.0.refine.": 2622465,
    "blocks.0.to_colours.": 264195,
    "blocks.4.enlarge.": 2622465,
    "blocks.5.enlarge.": 1442561,
    "blocks.5.refine.": 721409,
    "blocks.5.to_colours.": 132099,
    "blocks.6.enlarge.": 426369,
    "blocks.6.refine.": 213249,
    "blocks.6.to_colours.": 66051,
    "blocks.7.enlarge.": 139457,
}
PUBLISHED_CRITIC = {
    "from_colours.": 128,
    "blocks.0.around.": 2048,
    "blocks.0.refine.": 9248,
    "blocks.0.shrink.": 18496,
    "blocks.3.around.": 131072,
    "blocks.3.refine.": 590080,
    "blocks.3.shrink.": 1180160,
    "": 29012513,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED_GENERATOR.items())
def test_a_layer_of_the_generator_has_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert named(Generator(shape(1024)), name) == count


@pytest.mark.parametrize(("name", "count"), PUBLISHED_CRITIC.items())
def test_a_layer_of_the_critic_has_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert named(Critic(shape(1024)), name) == count


def test_another_size_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"images of 8, 16, .*, 1024 pixels, not 224: set it to one of them"):
        prior(224)


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="channel_base: 10 leaves no channel at 16 pixels: raise it to 16 or more"):
        prior(16, channel_base=10)


# Mapping and styles


def test_a_style_depends_on_the_direction_of_its_latent_only() -> None:
    gan = prior()
    torch.testing.assert_close(gan.map(3 * latents()), gan.map(latents()))


def test_truncation_pulls_the_first_styles_towards_their_mean() -> None:
    gan = prior()
    free, mean = gan.map(latents()), gan.average.mapping.mean
    truncated = gan.styles(latents(), truncation=0.5, cutoff=2)
    torch.testing.assert_close(truncated[:, :2], ((free + mean) / 2)[:, None].expand(-1, 2, -1))
    assert torch.equal(truncated[:, 2:], free[:, None].expand(-1, 2, -1))


def test_without_a_cutoff_all_styles_are_truncated() -> None:
    gan = prior()
    assert torch.equal(gan.styles(latents(), truncation=0.0), gan.average.mapping.mean.expand(3, 4, -1))


# Blocks


@pytest.mark.parametrize("split", [0, 1, 2])
def test_blocks_run_in_two_parts_give_the_image_of_one(split: int) -> None:
    gan = prior(32)
    styles = gan.styles(latents())
    at_once = gan.run_blocks(styles)
    features, image = gan.run_blocks(styles, last=split)
    parts = gan.run_blocks(styles, features, image, first=split + 1)
    assert all(torch.equal(part, expected) for part, expected in zip(parts, at_once, strict=True))


def test_without_an_image_a_part_gives_the_colours_of_its_own_blocks() -> None:
    gan = prior(16)
    styles = gan.styles(latents())
    features, image = gan.run_blocks(styles, last=1)
    _, colours = gan.run_blocks(styles, features, first=2)
    torch.testing.assert_close(doubled(image) + colours, gan.run_blocks(styles)[1])


@pytest.mark.parametrize(("style", "first"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_a_style_moves_features_from_its_block_on(style: int, first: int) -> None:
    gan = prior(16)
    styles = gan.styles(latents()).contiguous()
    moved = styles.clone()
    moved[:, style] += 1
    changed = [
        not torch.equal(*(gan.run_blocks(variant, last=block)[0] for variant in (styles, moved))) for block in range(3)
    ]
    assert changed == [block >= first for block in range(3)]


def test_the_last_style_moves_colours_only() -> None:
    gan = prior(16)
    styles = gan.styles(latents()).contiguous()
    moved = styles.clone()
    moved[:, -1] += 1
    (features, image), (same, moved_image) = gan.run_blocks(styles), gan.run_blocks(moved)
    assert torch.equal(features, same)
    assert not torch.equal(image, moved_image)


def test_images_are_in_the_range_of_the_data() -> None:
    gan = prior()
    style = gan.map(latents())
    image = gan.run_blocks(style[:, None].repeat(1, 4, 1))[1]
    torch.testing.assert_close(gan.synthesize(style), (image + 1) / 2)


def test_a_network_of_another_size_shows_its_central_square_at_the_size_of_the_data(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.touch()
    gan = prior(8, resolution=32, crop=24, weights=str(file))
    image = gan.run_blocks(gan.styles(latents()))[1]
    cut = T.resize(T.center_crop(image, [24, 24]), [8, 8], antialias=True)
    torch.testing.assert_close(gan.synthesize(gan.map(latents())), cut / 2 + 0.5)


def test_images_do_not_depend_on_their_batch() -> None:
    gan = prior(32)
    alone, together = gan.synthesize(gan.map(latents()[:1])), gan.synthesize(gan.map(latents()))
    torch.testing.assert_close(alone, together[:1], rtol=1e-4, atol=1e-4)  # of sums of float32 in another order


# Realism


def test_an_image_is_judged_by_itself() -> None:
    gan = prior()
    images = torch.rand(5, 3, 8, 8, generator=generator("test", "judged"))
    torch.testing.assert_close(gan.realism(images[3:4]), gan.realism(images)[3:4], rtol=1e-4, atol=1e-4)


def test_the_judgement_is_the_critics_logit_of_the_image_in_its_own_range() -> None:
    gan = prior()
    images = torch.rand(4, 3, 8, 8, generator=generator("test", "judged"))
    torch.testing.assert_close(gan.realism(images), gan.critic(images * 2 - 1))


def test_a_part_of_an_image_is_not_judged(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.touch()
    gan = prior(8, resolution=16, crop=12, weights=str(file))
    assert not gan.scores_realism
    with pytest.raises(NotImplementedError, match="stylegan2 does not judge images"):
        gan.realism(torch.zeros(1, 3, 8, 8))


# What it is trained with


def test_the_penalty_on_slopes_of_a_plane_is_its_squared_slope() -> None:
    images = torch.zeros(2, 1, 1, 2, requires_grad=True)
    slope = torch.tensor([3.0, 4.0])
    assert gradient_penalty(images.flatten(1) @ slope, images).item() == 25


def test_the_penalty_on_slopes_is_averaged_over_images_and_can_be_descended() -> None:
    images = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).requires_grad_(True)
    scale = torch.tensor(3.0, requires_grad=True)
    penalty = gradient_penalty(scale * images.flatten().square() / 2, images)  # slopes 3 x 1 and 3 x 2
    assert penalty.item() == pytest.approx((9 + 36) / 2)
    assert torch.autograd.grad(penalty, scale)[0].item() == pytest.approx(2 * 3 * (1 + 4) / 2)


def test_a_path_length_is_the_root_mean_square_slope_over_layers() -> None:
    styles = torch.ones(1, 2, 1, requires_grad=True)
    images = (3 * styles[:, 0] + 4 * styles[:, 1]).view(1, 1, 1, 1)
    noise = torch.randn(1, generator=generator("test", "path")).abs().item()
    lengths = path_lengths(images, styles, generator("test", "path"))
    assert lengths.item() == pytest.approx(noise * math.sqrt((9 + 16) / 2))


def test_path_noise_shrinks_with_the_side_of_an_image() -> None:
    styles = torch.ones(1, 1, 1, requires_grad=True)
    noise = torch.randn(16, generator=generator("test", "path"))
    lengths = path_lengths(styles.view(1, 1, 1, 1).expand(-1, -1, 4, 4), styles, generator("test", "path"))
    assert lengths.item() == pytest.approx(abs(noise.sum().item()) / 4, rel=1e-5)


def test_the_penalty_on_paths_is_on_the_distance_from_their_moving_mean() -> None:
    paths = PathLengths()
    paths.mean.fill_(1.0)
    styles = torch.ones(1, 1, 1, requires_grad=True)
    images = 2 * styles.view(1, 1, 1, 1)
    length = 2 * torch.randn(1, generator=generator("test", "path")).abs().item()
    penalty = paths.penalty(images, styles, generator("test", "path"))
    mean = 0.99 + 0.01 * length
    assert paths.mean.item() == pytest.approx(mean)
    assert penalty.item() == pytest.approx((length - mean) ** 2, rel=1e-4)


def weighing(weight: float, statistic: float = 0.0) -> nn.BatchNorm1d:
    module = nn.BatchNorm1d(1)
    module.load_state_dict({"weight": torch.tensor([weight]), "running_mean": torch.tensor([statistic])}, strict=False)
    return module


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (0, 3.0),  # nothing to average over
        (100, 1 + 2 * (1 - 0.5**2)),  # a batch of 10 is twice the 5 images that the ramp gives
        (10_000, 2.0),  # half way: a batch is the half-life
    ],
)
def test_the_average_forgets_by_its_half_life(seen: int, expected: float) -> None:
    average = weighing(1.0)
    move_average(average, weighing(3.0), seen=seen, batch=10, half_life=10)
    assert average.weight.item() == pytest.approx(expected)


def test_the_average_takes_statistics_as_they_are() -> None:
    average = weighing(1.0, statistic=1.0)
    move_average(average, weighing(1.0, statistic=7.0), seen=10_000, batch=10, half_life=10)
    assert average.state_dict()["running_mean"].item() == 7


def pairs(network: Generator) -> tuple[Tensor, Tensor]:
    """Two latents for each of three images, and the styles of both."""
    both = torch.randn(2, 3, 4, generator=generator("test", "pairs"))
    return both, torch.stack([network.mapping(codes) for codes in both])


def test_without_mixing_all_layers_have_the_style_of_the_first_latents() -> None:
    network = prior().average
    both, (first, _) = pairs(network)
    styles = mixed_styles(network, both, mixing=0.0, draws=generator("test", "mixing"))
    assert torch.equal(styles, first[:, None].expand_as(styles))


@pytest.mark.parametrize("draw", range(5))
def test_with_mixing_the_styles_change_once_between_the_first_and_the_last_layer(draw: int) -> None:
    network = prior(32).average
    both, (first, second) = pairs(network)
    styles = mixed_styles(network, both, mixing=1.0, draws=generator("test", "mixing", draw))
    of_first = [torch.equal(styles[:, layer], first) for layer in range(8)]
    of_second = [torch.equal(styles[:, layer], second) for layer in range(8)]
    assert of_first == [not there for there in of_second]
    assert of_first[0] and of_second[-1] and sorted(of_first, reverse=True) == of_first


def test_the_mean_style_moves_towards_that_of_a_batch() -> None:
    network = prior().average
    before = network.mapping.mean.clone()
    both, (first, _) = pairs(network)
    mixed_styles(network, both, mixing=1.0, draws=generator("test", "mixing"))
    torch.testing.assert_close(network.mapping.mean, 0.995 * before + 0.005 * first.mean(0))


def batches() -> PublicBatches:
    return PublicBatches(IMAGES, torch.device("cpu"))


def blank() -> StyleGan2:
    """One whose weights are zero, so that its critic is undecided."""
    return built().train()


def test_an_undecided_critic_loses_a_bit_on_both_sides() -> None:
    loss, _ = blank().critic_loss(batches(), generator("test", "loss"))
    assert loss.item() == pytest.approx(2 * math.log(2))


def test_a_generator_loses_a_bit_to_an_undecided_critic() -> None:
    loss, _ = blank().generator_loss(batches(), generator("test", "loss"))
    assert loss.item() == pytest.approx(math.log(2))


class Plane(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return 3 * images[:, 0, 0, 0] + 4 * images[:, 0, 0, 1]


@pytest.mark.parametrize(("r1_gamma", "gamma"), [(10.0, 10.0), (None, 0.0002 * 64 / 4)])  # 8 x 8 pixels, batches of 4
def test_slopes_weigh_for_all_the_steps_until_the_next_time(
    r1_gamma: float | None, gamma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    gan = built(r1_every=16, r1_gamma=r1_gamma)
    monkeypatch.setattr(gan, "critic", Plane())
    penalty, _ = gan.gradient_penalty_loss(batches(), generator("test", "slopes"))
    assert penalty.item() == pytest.approx(gamma / 2 * 25 * 16)


def test_optimisers_are_slowed_for_their_steps_of_regularisation() -> None:
    gan = built(r1_every=16, path_length_every=4)
    defaults = {name: gan._adam(name, 0.02).defaults for name in ("critic", "generator")}
    assert defaults["critic"]["lr"] == pytest.approx(0.02 * 16 / 17)
    assert defaults["critic"]["betas"] == pytest.approx((0, 0.99 ** (16 / 17)))
    assert defaults["generator"]["lr"] == pytest.approx(0.02 * 4 / 5)
    assert defaults["generator"]["betas"] == pytest.approx((0, 0.99 ** (4 / 5)))


def test_optimisers_that_do_not_regularise_are_as_they_were_asked_for() -> None:
    gan = built(r1_gamma=0.0, path_length_weight=0.0)
    assert {gan._adam(name, 0.02).defaults["lr"] for name in ("critic", "generator")} == {0.02}


def test_a_batch_that_makes_no_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size: above 4 it must be a multiple of 4, because .*, got 10: take 8"):
        StyleGan2Config(batch_size=10)


# Fitting


def fitted(folder: Path, *, checkpoints: int | None = None, **settings: Any) -> dict[str, Tensor]:
    """The state of a fitted prior, or `Interrupted` after that many checkpoints; there is one per step."""
    gan = built(**settings)
    gan.fit(IMAGES, context=context_at(folder, stop_after=checkpoints))
    return gan.state_dict()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """A fit in one go; the global generator is checked on the way."""
    before = torch.get_rng_state()
    state = fitted(tmp_path_factory.mktemp("undisturbed"))
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    return state


@pytest.mark.parametrize("stop_at", [1, 6, 11])
def test_a_resumed_fit_ends_with_the_same_bits(tmp_path: Path, undisturbed: dict[str, Tensor], stop_at: int) -> None:
    with pytest.raises(Interrupted):
        fitted(tmp_path, checkpoints=stop_at)
    resumed = fitted(tmp_path)
    assert [name for name, tensor in undisturbed.items() if not torch.equal(resumed[name], tensor)] == []


def test_fitting_moves_all_that_is_learned(undisturbed: dict[str, Tensor]) -> None:
    start = built()
    start.draw_weights(generator("0" * 64, "initialization"))
    assert [name for name, parameter in start.named_parameters() if torch.equal(parameter, undisturbed[name])] == []


def test_what_is_used_is_an_average_and_not_the_last_weights(undisturbed: dict[str, Tensor]) -> None:
    average, last = undisturbed["average.constant"], undisturbed["generator.constant"]
    assert not torch.equal(average, last)


def test_augmentation_sets_in_during_a_fit(undisturbed: dict[str, Tensor]) -> None:
    assert undisturbed["augmentation.probability"].item() > 0


def test_a_prior_is_fitted_at_another_size_than_the_datas(tmp_path: Path) -> None:
    assert fitted(tmp_path, resolution=16, steps=2)["average.blocks.2.refine.noise"].shape == (16, 16)


# Weights from a file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The average and the critic of a prior, as the converter writes them."""
    weights = {
        name: tensor for name, tensor in prior().state_dict().items() if name.startswith(("average.", "critic."))
    }
    save_file(weights, tmp_path / "published.safetensors")
    return tmp_path / "published.safetensors"


def test_weights_of_a_file_take_the_place_of_a_fit(file: Path, tmp_path: Path) -> None:
    state = fitted(tmp_path, weights=str(file))
    expected = prior().state_dict()
    assert {name.partition(".")[0] for name in state} == {"average", "critic"}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())


def test_a_fitted_prior_serves_as_a_file_of_weights(undisturbed: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(undisturbed, tmp_path / "prior.safetensors")
    state = fitted(tmp_path, weights=str(tmp_path / "prior.safetensors"))
    assert torch.equal(state["average.constant"], undisturbed["average.constant"])


def test_the_key_follows_what_a_file_holds_and_not_where_it_lies(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other.safetensors"
    copy.write_bytes(file.read_bytes())
    assert content(StyleGan2Config(weights=str(copy))) == content(StyleGan2Config(weights=str(file)))
    save_file({"average.constant": torch.zeros(1)}, copy)
    assert content(StyleGan2Config(weights=str(copy))) != content(StyleGan2Config(weights=str(file)))


def test_weights_of_another_shape_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"do not fit StyleGan2: 1 of another shape"):
        fitted(tmp_path, weights=str(file), latent_size=5, style_size=6, mapping_layers=2)


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(DataError, match="holds no plain weights"):
        fitted(tmp_path, weights=str(tmp_path / "text.safetensors"))


def test_a_missing_file_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        ValueError, match=r"no file nowhere.safetensors: give none, or one that python -m workloads.priors"
    ):
        StyleGan2Config(weights="nowhere.safetensors")


def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "ffhq.pkl").touch()
    with pytest.raises(ValueError, match=r"ffhq.pkl is a pickle, which can run code: convert it first, by python -m"):
        StyleGan2Config(weights=str(tmp_path / "ffhq.pkl"))


def test_a_crop_is_for_published_networks_only() -> None:
    with pytest.raises(ConfigError, match="crop: 4 of 8 pixels: only images of published weights can be cropped"):
        prior(crop=4)


def test_drawing_anew_begins_both_generators_alike() -> None:
    gan = prior()
    gan.draw_weights(generator("test", "anew"))
    twin = Generator(shape(8, base=40, most=8, mapping_layers=2))
    draw_all(twin, generator("test", "anew"))
    assert torch.equal(gan.average.constant, gan.generator.constant)
    assert torch.equal(gan.average.constant, twin.constant)
