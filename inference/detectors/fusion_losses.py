"""What the fusion network is trained for: equations (4) to (8) of the paper, see `inference.detectors.mlff`.

Notation: a map has K = h w pixels; `F [B, C, h, w]` are its features, `S [B, h, w]` its scores, and `mask [B, h, w]`
bool is true at anomalous pixels. All losses are in float32, whatever the precision of the network.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_CLOSEST = 1e-6  # of an anomalous pixel to the centre, so that its loss is finite
_MASKED = -1e4  # as a logit: no probability left, and no infinity to subtract


def distance(features: Tensor) -> Tensor:
    """Distance `A [B, h, w]` of features `[B, C, h, w]` to the centre: `sqrt(|F|^2 + 1) - 1`, exact near zero too."""
    squared = features.float().square().sum(1)
    return squared / ((squared + 1).sqrt() + 1)


def feature_loss(distances: Tensor, mask: Tensor) -> Tensor:
    """Eq. (4): normal pixels near the centre, anomalous ones far from it, both kinds weighing the same.

    Args:
        distances: A, `[B, h, w]`.
        mask: `[B, h, w]` bool; a kind of which there is no pixel has no term.
    """
    total = distances.new_zeros(())
    if bool((~mask).any()):
        total = total + 0.5 * distances[~mask].mean()
    if bool(mask.any()):
        total = total - 0.5 * torch.log(-torch.expm1(-distances[mask].clamp_min(_CLOSEST))).mean()
    return total


def score_loss(scores: Tensor, mask: Tensor, generator: torch.Generator, *, gamma: float, margin: float) -> Tensor:
    """Eq. (5): normal scores below `gamma`, anomalous ones at least `margin` above normal ones.

    Args:
        scores: S, `[B, h, w]`.
        mask: `[B, h, w]` bool.
        generator: draws the normal pixel each anomalous one is compared with, from its own image if it has one.
        gamma: largest score of a normal pixel that costs nothing.
        margin: lambda.
    """
    normal, anomalous = scores[~mask], scores[mask]
    total = scores.new_zeros(())
    if normal.numel():
        total = total + F.relu(normal - gamma).mean()
    if normal.numel() and anomalous.numel():
        total = total + F.relu(margin - (anomalous - normal[_partners(mask, generator)])).mean()
    return total


def consistency_loss(features: Tensor, scores: Tensor, mask: Tensor, *, patch: int) -> Tensor:
    """Eqs. (6) and (7): patches as far apart in score as in features, compared as distributions over the other patches.

    Args:
        features: F, `[B, C, h, w]`.
        scores: S, `[B, h, w]`.
        mask: `[B, h, w]` bool; patches with an anomalous pixel are left out.
        patch: edge in pixels of the patches, whose means are compared.

    Both matrices of distances are divided by their mean, so that neither scale decides what is alike.
    """
    grid = (max(1, scores.shape[1] // patch), max(1, scores.shape[2] // patch))
    vectors = F.adaptive_avg_pool2d(features.float(), grid).flatten(2).mT  # [B, P, C]
    values = F.adaptive_avg_pool2d(scores.float().unsqueeze(1), grid).flatten(2).mT  # [B, P, 1]
    kept = F.adaptive_max_pool2d(mask.float().unsqueeze(1), grid).flatten(1) == 0  # [B, P]
    p, q = (_log_distribution(x, kept) for x in (vectors, values))
    rows = (q.exp() * (q - p)).sum(2) * kept  # KL(Q_i || P_i) of each kept patch
    counts = kept.sum(1)
    return (rows.sum(1) / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)


@dataclass(frozen=True, slots=True)
class FusionLoss:
    """Eq. (8), the weighted sum of the three; those left out cost nothing.

    Attributes:
        weights: alpha, beta and xi, of the features', the scores' and the consistency loss; 0 leaves one out.
        gamma: see `score_loss`.
        margin: lambda, see `score_loss`.
        patch: see `consistency_loss`.
    """

    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 2.5
    margin: float = 5.0
    patch: int = 4

    def __call__(self, features: Tensor, scores: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """A scalar; arguments as above."""
        alpha, beta, xi = self.weights
        scores = scores.float()
        total = scores.new_zeros(())
        if alpha:
            total = total + alpha * feature_loss(distance(features), mask)
        if beta:
            total = total + beta * score_loss(scores, mask, generator, gamma=self.gamma, margin=self.margin)
        if xi:
            total = total + xi * consistency_loss(features, scores, mask, patch=self.patch)
        return total


def _partners(mask: Tensor, generator: torch.Generator) -> Tensor:
    """For each anomalous pixel, in order, which of the normal pixels it is compared with; there is one at least."""
    normal = (~mask).flatten(1).sum(1)  # [B]
    first = normal.cumsum(0) - normal
    image = mask.nonzero()[:, 0]
    first, room = first[image], normal[image]
    alone = room == 0  # nothing normal in its image: any of the batch will do
    first, room = first.masked_fill(alone, 0), torch.where(alone, normal.sum(), room)
    drawn = torch.rand(len(image), generator=generator, dtype=torch.float64).to(mask.device)
    return first + (drawn * room).long()


def _log_distribution(values: Tensor, kept: Tensor) -> Tensor:
    """Log-softmax `[B, P, P]` over the distances of each of the values `[B, P, C]` to those kept `[B, P]`."""
    # Not by matrix products: they lose the distances of neighbours that are almost alike, and their gradients.
    distances = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = kept.unsqueeze(1) & kept.unsqueeze(2)
    mean = (distances * pairs).sum((1, 2), keepdim=True) / pairs.sum((1, 2), keepdim=True).clamp_min(1)
    return (distances / (mean + 1e-6)).masked_fill(~kept.unsqueeze(1), _MASKED).log_softmax(-1)
