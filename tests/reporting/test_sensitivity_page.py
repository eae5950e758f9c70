import pytest

from deploykit.reporting.attachments.sensitivity_analysis import Sensitivity, headline, histogram, log_bar, to_page


def layer(name, kl):
    return {
        "name": name,
        "op_type": "Conv",
        "scores": {"alone": {"kl": kl, "snr_db": 30.0, "agreement": 1.0}},
        "input": {
            "tensor": "x", "low": -1.0, "high": 3.0, "range_low": -1.0, "range_high": 2.0, "clipped_ratio": 0.01,
            "histogram": [0, 5, 10, 1],
        },
        "weights": {"shape": [8, 3, 3, 3], "bits": 8, "snr_db": 40.0, "channel_spread": 2.0},
    }  # fmt: skip


def analysis(*layers):
    return {
        "schema": "deploykit.sensitivity/1", "model": {"name": "<net>", "sha256": "0"}, "target": "ort-cpu",
        "method": "mse", "data": "digits", "calibration_images": 8, "images": 4, "modes": ["alone"],
        "whole": {"kl": 0.5, "snr_db": 20.0, "agreement": 0.99}, "layers": list(layers),
    }  # fmt: skip


def test_the_headline_names_the_worst_and_how_many_matter():
    found = headline(Sensitivity.model_validate(analysis(layer("a", 0.8), layer("b", 0.15), layer("c", 0.01))))
    assert found == "a costs most: a divergence of 0.8 nats. 2 of 3 layers make 90 % of the sum over layers."
    assert headline(Sensitivity.model_validate(analysis(layer("a", 0.8), layer("b", 0.01)))).endswith(
        "1 of 2 layers makes 90 % of the sum over layers."
    )
    assert headline(Sensitivity.model_validate(analysis())) == "No layer would be quantized."


def test_the_page_escapes_names_and_marks_what_is_clipped():
    page = to_page(Sensitivity.model_validate(analysis(layer("<b>", 0.8))))
    assert "<net>" not in page
    assert "&lt;net&gt;" in page
    assert "<b>" not in page
    assert page.count('class="clipped"') == 1


@pytest.mark.parametrize(("value", "width"), [(1.0, "180"), (0.1, "144"), (1e-9, None), (0.0, None)])
def test_bars_are_logarithmic(value, width):
    drawn = log_bar(value, 1.0, "a layer")
    assert drawn.count("<rect") == (1 if width is None else 2)
    if width is not None:
        assert f'width="{width}" height="12" rx="2" class="fill"' in drawn


def test_an_empty_histogram_draws_nothing():
    assert histogram([0, 0], 0.0, 0.0, (0.0, 0.0), "x").count("<rect") == 0
