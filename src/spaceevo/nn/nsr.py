"""The NSR loss of block-wise distillation (paper section 4.5; DONNA, Moons et al., ICCV 2021, equation 1)."""

from torch import Tensor


def nsr_loss(student: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """Noise-to-signal ratio: the squared error a channel over the teacher's variance in it, mean over channels.

    Args:
        student, teacher: ``[B, C, H, W]``; variance: ``[C]``, of the teacher's feature over images and positions.
    """
    noise = (student - teacher).square().mean((0, 2, 3))
    return (noise / variance.clamp(min=1e-6)).mean()
