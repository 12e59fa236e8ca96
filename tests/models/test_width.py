from siamtune.models.width import widened


def test_channels_are_rounded_and_never_none() -> None:
    assert [widened(5, width) for width in (1.0, 2.0, 0.5, 0.7)] == [5, 10, 2, 4]
    assert widened(1, 0.25) == 1
