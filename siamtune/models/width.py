"""How wide a layer is."""


def widened(channels: int, width: float) -> int:
    """The channels of a convolution that has `channels` at width 1; at least one."""
    return max(1, round(channels * width))
