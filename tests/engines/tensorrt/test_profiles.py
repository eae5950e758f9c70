import pytest

from deploykit.base.errors import BadInput
from deploykit.engines.tensorrt.execution import choose_profile
from deploykit.engines.tensorrt.profiles import Declared, make_profiles

PICTURES = [Declared("input", (-1, 3, 8, 8))]


def shapes(profile):
    return profile.shapes["input"]


def test_a_dynamic_batch_gets_one_profile_by_default():
    assert [shapes(one) for one in make_profiles([], PICTURES)] == [((1, 3, 8, 8), (8, 3, 8, 8), (32, 3, 8, 8))]
    sizes = [[shape[0] for shape in shapes(make_profiles([], PICTURES, batch)[0])] for batch in (1, 64)]
    assert sizes == [[1, 1, 32], [1, 64, 64]]  # the batch that is asked for is always taken


def test_batches_and_whole_shapes_are_read():
    found = make_profiles(["1:1:1", "input=2x3x8x8:4x3x8x8:16x3x8x8"], PICTURES)
    assert [[shape[0] for shape in shapes(one)] for one in found] == [[1, 1, 1], [2, 4, 16]]


def test_a_fixed_network_has_no_profile():
    assert make_profiles([], [Declared("input", (4, 3, 8, 8))]) == []
    with pytest.raises(BadInput, match=r"no dynamic input.*got input \[4, 3, 8, 8\]"):
        make_profiles(["1:2:3"], [Declared("input", (4, 3, 8, 8))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,8,32", "cannot read the profile"),
        ("1:8", "cannot read the profile"),
        ("0:1:2", "1 <= MIN <= OPT <= MAX"),
        ("8:4:16", r"got 8:4:16; expected 1 <= MIN <= OPT <= MAX"),
        ("images=1x3x8x8:1x3x8x8:1x3x8x8", r"names the input 'images'.*one of input"),
        ("inputs=1x3x8x8:1x3x8x8:1x3x8x8", r"Did you mean 'input'\?"),
        ("input=1x3x8:1x3x8:1x3x8", r"wrong rank; got 3 dimensions; expected \[-1, 3, 8, 8\]"),
        ("input=1x3x9x8:1x3x9x8:1x3x9x8", r"changes a fixed dimension; got \[1, 3, 9, 8\]"),
        ("input=2x3x8x8:1x3x8x8:4x3x8x8", "1 <= MIN <= OPT <= MAX"),
        ("1:8:2147483648", "a profile's batch sizes; got 1:8:2147483648; expected at most 2147483647"),
        ("1:8:99999999999999999999", "got 1:8:99999999999999999999; expected at most 2147483647"),
        ("input=1x3x8x8:1x3x8x8:99999999999x3x8x8", "'input'; got 1, 1, 99999999999; expected at most 2147483647"),
    ],
)
def test_what_the_library_would_take_in_silence_is_refused(text, message):
    with pytest.raises(BadInput, match=message):
        make_profiles([text], PICTURES)


def test_dynamic_height_needs_whole_shapes():
    free = [Declared("input", (-1, 3, -1, -1))]
    with pytest.raises(BadInput, match=r"dynamic dimensions besides the batch.*Pass --profile input=1x3x224x224"):
        make_profiles([], free)
    with pytest.raises(BadInput, match="dynamic dimensions besides the batch"):
        make_profiles(["1:2:4"], free)
    text = "input=1x3x32x32:1x3x64x64:2x3x128x128"
    assert shapes(make_profiles([text], free)[0])[2] == (2, 3, 128, 128)


def test_every_dynamic_input_is_named():
    two = [*PICTURES, Declared("mask", (-1, 1))]
    with pytest.raises(BadInput, match="leaves out the dynamic input 'mask'"):
        make_profiles(["input=1x3x8x8:1x3x8x8:1x3x8x8"], two)
    found = make_profiles(["input=1x3x8x8:2x3x8x8:4x3x8x8,mask=1x1:2x1:4x1"], two)
    assert found[0].takes({"input": (4, 3, 8, 8), "mask": (4, 1)})
    assert not found[0].takes({"input": (5, 3, 8, 8), "mask": (4, 1)})


def test_the_nearest_profile_is_chosen_and_a_batch_outside_is_refused():
    profiles = make_profiles(["1:1:4", "2:8:16"], PICTURES)
    batches = {1: 0, 2: 0, 4: 0, 5: 1, 16: 1}
    assert {n: choose_profile(profiles, {"input": (n, 3, 8, 8)}) for n in batches} == batches
    assert choose_profile([], {"input": (1, 3, 8, 8)}) == -1
    with pytest.raises(BadInput, match=r"no profile of the engine takes the input; got input \[32, 3, 8, 8\].*rebuild"):
        choose_profile(profiles, {"input": (32, 3, 8, 8)})
