"""predict names pictures with any runner, and refuses what is no classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.tensor_spec import TensorSpec
from deploykit.commands.predict import predict
from deploykit.config.predict import PredictConfig

PLAIN = Preprocessing((8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Brightness:
    """A real function as a runner: the logits are the mean red, green and blue, times ten."""

    target, precision, device, threads, task, notes = "ort-cpu", "fp32", "cpu", 1, "classify", ()

    def __init__(self, batch: int | str = "batch", classes=("red", "green", "blue"), preprocessing=PLAIN, answer=None):
        self.inputs = (TensorSpec("input", "float32", (batch, 3, 8, 8), "NCHW"),)
        self.outputs = (TensorSpec("output", "float32", (batch, 3), "NC"),)
        self.classes, self.preprocessing, self.answer = classes, preprocessing, answer
        self.sizes: list[int] = []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.sizes.append(len(x))
        logits = 10 * x.mean(axis=(2, 3))
        return (logits if self.answer is None else self.answer(logits)).astype(np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Let predict open the runner given, in place of an engine."""
    import deploykit.engines

    (tmp_path / "m.onnx").touch()

    def use(runner: Brightness) -> Brightness:
        monkeypatch.setattr(deploykit.engines, "open_runner", lambda spec, **options: runner)
        return runner

    return use


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    folder = tmp_path / "colours"
    folder.mkdir()
    for i in range(5):
        pixels = np.zeros((12, 10, 3), np.uint8)
        pixels[..., i % 3] = 200
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_names_and_probabilities(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness())
    result = predict(tmp_path / "m.onnx", [colours, colours / "2.png"], config=PredictConfig(top=2, batch=2))
    assert [one.top[0][0] for one in result.answers] == ["red", "green", "blue", "red", "green", "blue"]
    logits = np.array([200 / 25.5, 0, 0])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert result.answers[0].top[0][2] == pytest.approx(expected[0], rel=1e-5)
    assert [len(one.top) for one in result.answers] == [2] * 6
    fields = result.to_dict()["predictions"][1]
    assert fields["file"].endswith("1.png")
    assert fields["top"][0]["index"] == 1
    assert result.summary().splitlines()[2].endswith("2.png: blue 99.9 %, red 0.0 %")


def test_without_class_names_and_more_top_than_classes(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness(classes=None))
    result = predict(tmp_path / "m.onnx", [colours / "1.png"], config=PredictConfig(top=9))
    assert [name for name, _, _ in result.answers[0].top] == ["1", "0", "2"]


def test_a_fixed_batch_is_filled_up(opened, tmp_path: Path, colours: Path) -> None:
    runner = opened(Brightness(batch=4))
    result = predict(tmp_path / "m.onnx", [colours])
    assert runner.sizes == [4, 4]
    assert [one.top[0][0] for one in result.answers] == ["red", "green", "blue", "red", "green"]


def test_outputs_that_are_probabilities_get_no_second_softmax(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness(answer=lambda logits: np.tile([[0.7, 0.2, 0.1]], (len(logits), 1))))
    result = predict(tmp_path / "m.onnx", [colours])
    assert result.answers[0].top[0][2] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            lambda x: x[:, :1],
            "is a one-logit (binary) model; got outputs of shape [N, 1]; expected one logit per class",
        ),
        (
            lambda x: np.tile([[0.9, 0.8, 0.1]], (len(x), 1)) + np.arange(len(x))[:, None] / 100,
            "looks like a multi-label",
        ),
        (lambda x: x[:, :, None, None], "is no classifier; got outputs of shape [6, 3, 1, 1] for 6 pictures"),
        (lambda x: x[:, :2], "3 class names for 2 outputs"),
    ],
)
def test_refuses_what_is_no_classifier(opened, tmp_path: Path, colours: Path, answer, text: str) -> None:
    opened(Brightness(answer=answer))
    with pytest.raises(BadInput) as error:
        predict(tmp_path / "m.onnx", [colours, colours / "0.png"])
    assert text in error.value.line()


def test_nan_is_no_answer(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness(answer=lambda x: x * np.nan))
    with pytest.raises(AnswerNo, match="NaN or infinite outputs"):
        predict(tmp_path / "m.onnx", [colours])


def test_bad_pictures(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness())
    empty = tmp_path / "nothing"
    empty.mkdir()
    for images, text in (
        ([], "no pictures named"),
        ([empty], "nothing holds no pictures"),
        ([tmp_path / "none.png"], "the picture"),
    ):
        with pytest.raises(BadInput, match=text):
            predict(tmp_path / "m.onnx", images)
    (colours / "3.png").write_bytes(b"broken")
    with pytest.raises(BadInput, match=r"3\.png is no picture"):
        predict(tmp_path / "m.onnx", [colours])
    result = predict(tmp_path / "m.onnx", [colours], config=PredictConfig(skip_broken=True))
    assert [Path(one.file).name for one in result.answers] == ["0.png", "1.png", "2.png", "4.png"]


def test_no_preprocessing(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness(preprocessing=None))
    assert len(predict(tmp_path / "m.onnx", [colours]).answers) == 5
    runner = opened(Brightness(preprocessing=None))
    runner.inputs = (TensorSpec("input", "float32", ("batch", 3, "height", "width"), "NCHW"),)
    with pytest.raises(BadInput, match="does not say how large its input is"):
        predict(tmp_path / "m.onnx", [colours])
    assert len(predict(tmp_path / "m.onnx", [colours], config=PredictConfig(size=8)).answers) == 5


def test_annotate(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness())
    (tmp_path / "more").mkdir()
    Image.new("RGB", (900, 1), (0, 255, 0)).save(tmp_path / "more" / "0.png")
    out = tmp_path / "out"
    images = [colours, tmp_path / "more"]
    result = predict(tmp_path / "m.onnx", images, out)
    assert sorted(path.name for path in out.iterdir()) == ["0-2.png", "0.png", "1.png", "2.png", "3.png", "4.png"]
    assert len(result.annotated) == 6
    copy = np.asarray(Image.open(out / "0.png"))
    assert copy.shape[1] >= 192
    assert (copy[: copy.shape[0] // 2, 100] == [200, 0, 0]).all()  # the picture itself is not covered
    assert copy[-20:].max() > 200  # light text on the band
    before = (out / "0.png").read_bytes()
    with pytest.raises(BadInput, match=r"0\.png exists. Choose another folder for --annotate, or pass --force"):
        predict(tmp_path / "m.onnx", images, out)
    assert (out / "0.png").read_bytes() == before
    assert predict(tmp_path / "m.onnx", images, out, force=True).annotated == result.annotated


def test_annotate_never_writes_over_the_pictures(opened, tmp_path: Path, colours: Path) -> None:
    opened(Brightness())
    before = {path.name: path.read_bytes() for path in colours.iterdir()}
    with pytest.raises(BadInput, match="is one of the pictures"):
        predict(tmp_path / "m.onnx", [colours], colours, force=True)
    assert {path.name: path.read_bytes() for path in colours.iterdir()} == before
    with pytest.raises(BadInput, match="is no folder"):
        predict(tmp_path / "m.onnx", [colours], colours / "0.png")
    with pytest.raises(BadInput, match="does not exist"):
        predict(tmp_path / "m.onnx", [colours], tmp_path / "a" / "b")
    with pytest.raises(BadInput, match=r"none\.onnx does not exist"):
        predict(tmp_path / "none.onnx", [colours])
