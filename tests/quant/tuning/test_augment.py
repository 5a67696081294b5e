import pytest
import torch

from quant.tuning.augment import random_patches, random_views


def ramps(count: int) -> torch.Tensor:
    """Channel 0 is each pixel's place along the width, channel 1 along the height, both in [-1, 1]."""
    place = (torch.arange(64) + 0.5) / 32 - 1
    return torch.stack([place.expand(64, 64), place[:, None].expand(64, 64)]).expand(count, 2, 64, 64)


def test_a_view_is_a_part_of_the_image_of_the_size_asked_for():
    views = random_views(ramps(200), torch.Generator().manual_seed(0), mirror=True, least_area=0.4)
    left, right, top, bottom = views[:, 0, 0, 0], views[:, 0, 0, -1], views[:, 1, 0, 0], views[:, 1, -1, 0]
    # The outermost pixels' centres lie half a pixel inside; at the image's own border the ramp is cut short.
    width, height = ((b - a).abs() * 64 / 63 / 2 for a, b in ((left, right), (top, bottom)))
    area = width * height
    assert bool((area > 0.38).all())
    assert bool((area < 1.01).all())
    assert float(area.min()) < 0.45
    assert float(area.max()) > 0.9
    assert 0.3 < float((left > right).float().mean()) < 0.7  # mirrored
    assert bool((top < bottom).all())
    assert torch.unique(left).numel() > 100  # each its own place


def test_all_of_an_image_is_the_image_or_its_mirror():
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    views = random_views(images, torch.Generator().manual_seed(0), mirror=True, least_area=1.0)
    same = (views == images).flatten(1).all(1)
    assert bool((same | (views == images.flip(-1)).flatten(1).all(1)).all())
    assert 16 < int(same.sum()) < 48
    assert random_views(images, torch.Generator(), mirror=False, least_area=1.0) is images


def test_inputs_that_are_no_images_stay_as_they_are():
    tokens = torch.randn(2, 5, 8)
    assert random_views(tokens, torch.Generator(), mirror=True, least_area=0.5) is tokens


@pytest.mark.parametrize("least_area", [0.5, 1.0])
def test_views_are_repeated_by_the_seed(least_area):
    images = torch.randn(4, 3, 8, 8)
    first, second = (
        random_views(images, torch.Generator().manual_seed(3), mirror=True, least_area=least_area)
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_a_patch_is_a_rectangle_of_another_image_at_its_own_place():
    count, size = 64, 32
    places = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size) / size**2
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None] + places
    patched = random_patches(images, torch.Generator().manual_seed(0), 0.75)
    assert torch.equal(patched - patched.floor(), places.expand_as(patched))  # nothing moved
    shares = []
    for index, image in enumerate(patched.floor()[:, 0]):
        foreign = image != index
        if foreign.any():
            assert len(image[foreign].unique()) == 1
            rows, columns = foreign.any(1), foreign.any(0)
            assert torch.equal(foreign, rows[:, None] & columns[None, :])
            shares.append(float(foreign.float().mean()))
    assert 0.5 * count < len(shares) < 0.95 * count
    assert min(shares) < 0.1
    assert max(shares) > 0.6


def test_no_patches_where_none_are_asked_for_or_where_inputs_are_no_images():
    images, tokens = torch.randn(4, 3, 8, 8), torch.randn(2, 5, 8)
    assert random_patches(images, torch.Generator(), 0.0) is images
    assert random_patches(tokens, torch.Generator(), 1.0) is tokens
