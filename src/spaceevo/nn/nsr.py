"""The NSR loss of block-wise distillation (paper section 4.5; DONNA, Moons et al., ICCV 2021, equation 1)."""

import torch.nn.functional as F
from torch import Tensor


def nsr_loss(student: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """Noise-to-signal ratio: the squared error a channel over the teacher's variance in it, mean over channels.

    Args:
        student: its feature ``[B, C, H, W]``.
        teacher: the teacher's.
        variance: ``[C]``, of the teacher's feature over images and positions.
    """
    noise = (student - teacher).square().mean((0, 2, 3))
    return (noise / variance.clamp(min=1e-6)).mean()


def nsr_at(student: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """``nsr_loss`` on the target's grid: an output ``[B, C, h, w]`` of another size is brought to it bilinearly first, so
    that what a coarse map cannot hold of a fine one counts as noise."""
    if student.shape[-2:] != target.shape[-2:]:
        student = F.interpolate(student, target.shape[-2:], mode="bilinear", align_corners=False)
    return nsr_loss(student, target, variance)
