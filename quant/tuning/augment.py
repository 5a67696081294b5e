"""Random views and mixtures of images that are already preprocessed."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["random_patches", "random_views"]


def random_views(images: Tensor, generator: torch.Generator, mirror: bool, least_area: float) -> Tensor:
    """Mirror each image with probability 1/2 and enlarge a random part of it to the full size.

    With (cx, cy) the part's centre and (w, h) its share of width and height, output pixel (u, v) in [−1, 1]²
    is read, bilinearly, at (cx ± w u, cy + h v). Area w h is uniform in [``least_area``, 1] and log(w / h)
    in ± log(4/3), each side at most 1; the centre is uniform where the part stays inside.

    Source: random resized crops (Szegedy et al. 2015, section 6).

    Args:
        images: [B, C, H, W]; inputs of another rank are no images and stay as they are.
        generator: of the random choices.
        mirror: whether to mirror.
        least_area: 1 takes no parts.

    Returns:
        The shape of ``images``.
    """
    if images.ndim != 4:
        return images
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    if least_area == 1.0:
        if not mirror:
            return images
        return torch.where((uniform(0, 1) < 0.5)[:, None, None, None], images.flip(-1), images)
    area, ratio = uniform(least_area, 1.0), torch.exp(uniform(-1.0, 1.0) * torch.log(torch.tensor(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    sign = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if mirror else torch.ones(count)
    transform = torch.zeros(count, 2, 3)
    transform[:, 0, 0], transform[:, 0, 2] = sign * width, uniform(-1, 1) * (1 - width)
    transform[:, 1, 1], transform[:, 1, 2] = height, uniform(-1, 1) * (1 - height)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_patches(images: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """Replace a random rectangle of some images by the same rectangle of another image of the batch.

    The rectangle has the image's shape and the share 1 − λ of its area, λ uniform in [0, 1]; its centre is
    uniform, and what would stand out is cut off.

    Source: CutMix (Yun et al. 2019, section 3.1); where a float model answers for the mixture, no label has
    to be mixed.

    Args:
        images: [B, C, H, W]; inputs of another rank are no images and stay as they are.
        generator: of the random choices.
        probability: that an image gets a patch.

    Returns:
        The shape of ``images``.
    """
    if images.ndim != 4 or not probability:
        return images
    count, _, height, width = images.shape

    def uniform() -> Tensor:
        return torch.rand(count, generator=generator)[:, None]

    side = uniform().sqrt() * (uniform() < probability)
    rows, columns = (
        ((torch.arange(size) + 0.5) / size - uniform()).abs() <= side / 2 for size in (height, width)
    )
    others = images[torch.randperm(count, generator=generator)]
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], others, images)
