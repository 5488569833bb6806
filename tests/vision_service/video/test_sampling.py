"""Frames are those the reference samples, in order."""

from typing import Any

import pytest

from internvl.errors import BadOption
from tests.support import golden
from vision_service.video.sampling import FrameOptions, frame_indices, wanted_indices

CASES = golden.load("video_index")["cases"]


def options_of(case: Any) -> FrameOptions:
    start, end = case["bound"] or (None, None)
    return FrameOptions(case["num_segments"], start, end)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_indices_equal_the_reference(case: Any) -> None:
    indices = frame_indices(options_of(case), frames_per_second=case["fps"], last_index=case["max_frame"])
    assert indices == case["indices"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_wanted_are_the_references_unless_it_reads_past_the_end(case: Any) -> None:
    count = case["max_frame"] + 1
    if (case["bound"] or (0,))[0] * case["fps"] >= count:
        with pytest.raises(BadOption, match="the video ends at"):
            wanted_indices(options_of(case), frames_per_second=case["fps"], frame_count=count)
        return
    indices = wanted_indices(options_of(case), frames_per_second=case["fps"], frame_count=count)
    assert indices == case["indices"]


@pytest.mark.parametrize("count", [1, 2, 7, 128])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 301])
def test_wanted_are_in_order_and_there(count: int, total: int) -> None:
    for start in range(0, 10 * total, 3):
        for end in (start + 1, start + 40, 10**6):
            options = FrameOptions(count, start / 100, end / 100)
            if start / 100 * 10 >= total:
                continue
            indices = wanted_indices(options, frames_per_second=10.0, frame_count=total)
            assert indices == sorted(indices)
            assert 0 <= indices[0] <= indices[-1] < total
