import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vl3d_lite.clouds.units import Frame
from vl3d_lite.errors import SpecError
from vl3d_lite.evaluation.disagreements import find_disagreements
from vl3d_lite.evaluation.evaluation import Evaluation, ScoredCloud, evaluate
from vl3d_lite.prediction.calibration import ReliabilityCounts, Temperature
from vl3d_lite.report.page import CloudView, ReportData, write_report
from vl3d_lite.report.palette import class_palette
from vl3d_lite.report.plots import plot_confusion, plot_curves, plot_reliability

NAMES = ("ground", "<script>alert(1)</script>", 'tree" onload="x', "water")
PNG = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Parsed content of a page; unbalanced tags are an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def images(self):
        return [value for key, value in self.attributes if key == "src"]

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


def make_cloud(name="town.laz", n=3000, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    reference = rng.integers(-1, 3, n)
    prediction = np.where(rng.random(n) < 0.7, np.maximum(reference, 0), 2)
    xyz = rng.random((n, 3)) * [120, 80, 10] + [700000, 6600000, 0]
    content = {"reference": reference, "confidence": rng.random(n)} | kwargs
    return CloudView(name, xyz, prediction, **content)


def make_report(tmp_path, **kwargs):
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "Qend.png").write_bytes(PNG + b"kernel")
    clouds = [
        make_cloud(class_sources={"predicted directly": 2700, "filled": 300}),
        make_cloud("<img src=http://x.y/z>.laz", seed=1),
    ]
    pairs = [(c.name, c.reference, c.prediction, c.confidence) for c in clouds]
    content = {
        "title": "run <7> & more",
        "class_names": NAMES,
        "evaluation": evaluate(pairs, NAMES),
        "history": [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": "1.5"}],
        "clouds": clouds,
        "kernel_images": [tmp_path / "layer" / "Qend.png"],
        "spec_text": "seed: 7  # <b> https://example.org/schema.json",
        "facts": {"started": "today", "timings": {"train": 61.5}, "versions": {}},
    }
    return ReportData(**content | kwargs)


def read_text(tmp_path):
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def read_page(tmp_path, report):
    write_report(tmp_path / "report.html", report)
    return Page(read_text(tmp_path))


@pytest.mark.slow
def test_the_page_makes_no_requests(tmp_path):
    page = read_page(tmp_path, make_report(tmp_path))
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    for key, value in page.attributes:
        if key == "src":
            assert value.startswith("data:image/png;base64,")
        if key == "href":
            assert value.startswith("#")
        if key == "style":
            assert "url" not in value
    styles = re.search(r"<style>(.*?)</style>", read_text(tmp_path), re.S)
    assert "url(" not in styles[1]
    assert "@import" not in styles[1]


@pytest.mark.slow
def test_names_are_escaped(tmp_path):
    page = read_page(tmp_path, make_report(tmp_path))
    assert "<script" not in read_text(tmp_path)
    for name in (*NAMES, "run <7> & more", "<img src=http://x.y/z>.laz"):
        assert name in page.words
    assert "seed: 7 # <b> https://example.org/schema.json" in page.words


def test_the_page_contains_all_given_content(tmp_path):
    report = make_report(tmp_path)
    page = read_page(tmp_path, report)
    scores = report.evaluation.scores
    assert f"{scores.mean_iou:.3f} mIoU" in page.words
    assert f"{scores.overall_accuracy:.3f} overall accuracy" in page.words
    assert "2,700 predicted directly (90.0 %); 300 filled (10.0 %)" in page.words
    assert "120 m \N{MULTIPLICATION SIGN} 80 m" in page.words
    assert "layer/Qend.png" in page.words
    assert "train 61.5" in page.words
    # Confusion, reliability, coverage, a curve, a kernel; a cloud has four pictures
    # from above and four of a cross-section.
    assert len(page.images) == 4 + 1 + 2 * 8
    for link in (value for key, value in page.attributes if key == "href"):
        assert ("id", link[1:]) in page.attributes


def test_a_page_without_labels_shows_predictions_only(tmp_path):
    cloud = make_cloud(reference=None, confidence=None)
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=[cloud]))
    assert len(page.images) == 2
    assert "no reference labels" in page.words
    ground = int((cloud.prediction == 0).sum())
    assert f"{ground:,} points predicted" in page.words
    assert "mIoU" not in page.words
    assert "Errors" not in page.words


def test_a_cloud_whose_labels_are_all_ignored_has_no_error_picture(tmp_path):
    cloud = make_cloud(reference=np.full(3000, -1), confidence=None)
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=[cloud]))
    assert len(page.images) == 2


def test_a_report_without_content_is_a_page(tmp_path):
    page = read_page(tmp_path, ReportData("empty run", NAMES))
    assert "empty run" in page.words
    assert page.images == []


@pytest.mark.slow
def test_the_page_states_the_error_before_and_after_calibration(tmp_path):
    labels = np.array([0, 0, 1, -1])
    zeros = np.zeros(4, int)
    before = ReliabilityCounts.measure(labels, zeros, np.full(4, 0.5))
    cloud = ScoredCloud("a", labels, zeros, np.full(4, 0.75), before)
    found = Temperature(0.625, before, ReliabilityCounts())
    without = {"name": "a", "error": 0.1}
    places = [
        {**without, "temperature_without": 0.5, "error_without": 0.2},
        {**without, "temperature_without": 0.75, "error_without": 0.3},
    ]
    pages = []
    for facts in (
        found.to_dict(),
        {**found.to_dict(), "given": 0.7},
        {**found.to_dict(), "places": places},
    ):
        folder = tmp_path / str(len(pages))
        folder.mkdir()
        report = make_report(
            folder, evaluation=evaluate([cloud], NAMES), temperature=facts
        )
        pages.append(read_page(folder, report).words)
    words, given, several = pages
    assert "the temperature lay between 0.500 and 0.750" in several
    assert "the error on the cloud left out was at most 0.300" in several
    assert "left out" not in words
    assert "calibration error is 0.083; it was 0.167 before calibration." in words
    assert "The calibration temperature 0.625 was fitted on 3 points" in words
    assert "with the temperature 0.700 from prediction.temperature" in given
    assert "instead of the temperature 0.625 fitted on the validation clouds" in given
    assert "fitted on 3 points" not in given


@pytest.mark.slow
def test_the_page_scores_all_points_and_accepted_points(tmp_path):
    labels = np.array([0, 0, 1, 2])
    prediction = np.array([0, 1, 1, 2])
    confidence = np.array([0.9, 0.4, 0.8, 0.7])
    cloud = ScoredCloud("a", labels, prediction, confidence, accepted=confidence >= 0.6)
    report = make_report(
        tmp_path, evaluation=evaluate([cloud], NAMES), min_confidence=0.6
    )
    page = read_page(tmp_path, report)
    rejected = "Points with a confidence below 0.6 were rejected, that is, left"
    assert f"{rejected} unclassified: 25.0 %" in page.words
    assert "rejected ones by their most probable class 4 0.667 0.750" in page.words
    assert "accepted points only 3 1.000 1.000" in page.words
    assert "0.7 75.0 % 1.000" in page.words
    assert "0.99 0.0 %" in page.words


def test_the_page_states_the_position_of_the_cross_section(tmp_path):
    cloud = make_cloud(frame=Frame(np.array([1000.0, 20.0, 0]), np.ones(3)))
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=[cloud]))
    contents = ("Reference", "Prediction", "Errors", "Confidence")
    titles = [f"{content}, cross-section along x" for content in contents]
    order = [page.words.index(title) for title in titles]
    assert order == sorted(order)
    found = re.search(
        r"The cross-section along x extends from ([\d.]+) to ([\d.]+) at y = "
        r"([\d.]+) and is ([\d.]+) m thick",
        page.words,
    )
    start, end, position, thickness = map(float, found.groups())
    assert 700999 < start < end < 701121
    assert end - start == pytest.approx(120, abs=1)
    assert 6600020 + 30 < position < 6600020 + 50
    assert thickness == pytest.approx(6 * np.sqrt(120 * 80 / 3000), abs=0.1)


def pictures(tmp_path, report):
    """The PNG files of a page by their alternative text."""
    write_report(tmp_path / "report.html", report)
    found = re.findall(r'<img[^>]* src="([^"]*)" alt="([^"]*)">', read_text(tmp_path))
    return {alt: base64.b64decode(src.partition(",")[2]) for src, alt in found}


def colors(png, part=slice(None)):
    """What a part of a picture's columns shows, transparent pixels left out."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    width = pixels.shape[1]
    start, stop = part.start or 0, part.stop or 1
    pixels = pixels[:, int(start * width) : int(stop * width)]
    seen = np.unique(pixels[pixels[..., 3] > 0][:, :3], axis=0)
    return {"#" + bytes(color).hex() for color in seen}


def test_every_picture_matches_its_title(tmp_path):
    cloud = make_cloud()
    west = cloud.xyz[:, 0] < np.median(cloud.xyz[:, 0])
    cloud = replace(
        cloud,
        reference=np.where(west, 0, 1),
        prediction=np.full(len(west), 1),
        confidence=np.where(west, 0.25, 1.0),
    )
    names = ("ground", "roof")
    ground, roof = class_palette(names)
    found = pictures(tmp_path, ReportData("r", names, clouds=[cloud]))
    left, right = slice(0, 0.4), slice(0.6, 1)
    for where in (" from above", ", cross-section along x"):
        reference = found[f"Reference{where}: town.laz"]
        assert colors(reference, left) == {ground}
        assert colors(reference, right) == {roof}
        assert colors(found[f"Prediction{where}: town.laz"]) == {roof}
        errors = found[f"Errors{where}: town.laz"]
        assert colors(errors, left) == {"#8e0c14"}
        assert colors(errors, right) == {"#c3c9d1"}
        confidence = found[f"Confidence{where}: town.laz"]
        assert colors(confidence, left) == {"#00224e"}
        assert colors(confidence, right) == {"#fee838"}


@pytest.mark.slow
def test_plots_equal_those_of_the_evaluation(tmp_path):
    report = make_report(tmp_path)
    found = pictures(tmp_path, report)
    pooled = report.evaluation.pooled
    assert found["Accuracy by confidence"] == plot_reliability(pooled.calibration)
    confusion = found["Confusion matrix, rows are the reference"]
    assert confusion == plot_confusion(report.evaluation)
    assert found["Loss by epoch"] == plot_curves(report.history)["Loss"]
    assert found["layer/Qend.png"] == PNG + b"kernel"


@pytest.mark.slow
def test_tables_contain_the_scores_of_each_class_and_cloud(tmp_path):
    report = make_report(tmp_path)
    words = read_page(tmp_path, report).words
    metrics = report.evaluation.to_dict()

    def shown(value):
        return "\N{EN DASH}" if value is None else f"{value:.3f}"

    for name, row in metrics["pooled"]["per_class"].items():
        scores = [shown(row[key]) for key in ("iou", "precision", "recall", "f1")]
        points = f"{row['support']:,} {row['predicted']:,}"
        assert f"{name} {' '.join(scores)} {points}" in words
    for name, row in metrics["clouds"].items():
        scores = [shown(row[key]) for key in ("mean_iou", "overall_accuracy")]
        scores += [shown(entry["iou"]) for entry in row["per_class"].values()]
        assert f"{name} {' '.join(scores)} {row['points']:,}" in words


def find(cloud, **changes):
    settings = {"link_distance": 5.0, "min_confidence": 0.5, "min_points": 3} | changes
    return find_disagreements(
        cloud.name,
        cloud.xyz,
        cloud.reference,
        cloud.prediction,
        cloud.confidence,
        NAMES,
        frame=cloud.frame,
        **settings,
    )


@pytest.mark.slow
def test_the_page_shows_the_ten_largest_disagreements(tmp_path):
    cloud = make_cloud(frame=Frame(np.array([1000.0, 0, 0]), np.ones(3)))
    found = find(cloud, link_distance=2.0, min_points=1)
    assert len(found) > 10
    report = make_report(
        tmp_path, clouds=[cloud], disagreements=found, confident_disagreements=found[:2]
    )
    page = read_page(tmp_path, report)
    for number, item in enumerate(found[:10], 1):
        assert (
            f"{number}. {item.reference} predicted as {item.prediction}" in page.words
        )
        assert f"x {item.x:.2f}, y {item.y:.2f}, z {item.z:.2f}" in page.words
    assert f"disagreements.csv lists {len(found) - 10} more disagreements" in page.words
    assert (
        len(re.findall("(?:Reference|Prediction), cross-section along", page.words))
        == 22
    )
    assert "Confident disagreements" in page.words
    assert f"{found[1].confident_points:,} {found[1].points:,}" in page.words


@pytest.mark.slow
def test_a_disagreement_of_a_cloud_that_is_not_shown_has_no_picture(tmp_path):
    found = find(make_cloud("elsewhere.laz"))[:1]
    words = read_page(tmp_path, make_report(tmp_path, disagreements=found)).words
    where = words[words.index("Largest disagreements Each entry") :]
    assert "elsewhere.laz, x" in where
    assert "cross-section along" not in where
    assert "Confident disagreements" not in words


def test_an_evaluation_of_no_points_is_a_page(tmp_path):
    page = read_page(tmp_path, ReportData("r", NAMES, evaluation=Evaluation(NAMES)))
    assert "not scored" in page.words
    assert "nan" not in page.words.lower()


def test_a_cloud_without_points_has_no_picture(tmp_path):
    empty = CloudView("empty.las", np.zeros((0, 3)), np.zeros(0, int))
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=[empty]))
    assert "empty.las 0 points." in page.words
    assert page.images == []


def test_clouds_are_read_one_at_a_time(tmp_path):
    clouds = (make_cloud(f"{i}.laz", n=50, seed=i) for i in range(3))
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=clouds))
    assert len(page.images) == 24


@pytest.mark.slow
@pytest.mark.parametrize(
    ("diagonal", "verdict"),
    [(90, "excellent"), (89, "good"), (75, "good"), (74, "fair"), (49, "poor")],
)
def test_the_verdict_follows_the_stated_thresholds(tmp_path, diagonal, verdict):
    reference = np.zeros(100, int)
    prediction = np.where(np.arange(100) < diagonal, 0, 1)
    evaluation = evaluate([("a", reference, prediction)], ("roof", "tree", "car"))
    page = read_page(
        tmp_path, ReportData("r", evaluation.class_names, evaluation=evaluation)
    )
    assert f"roof 0.{diagonal}0 {verdict} :" in page.words
    assert f"{100 - diagonal}.0 % of its points are predicted as tree" in page.words
    assert "tree 0.000 false alarms : does not occur in the reference" in page.words
    assert "100.0 % of its predictions are roof in the reference" in page.words
    assert "the reference has only 100 points" in page.words
    assert "good from 0.75, fair from 0.50, poor below." in page.words


def test_the_verdict_names_the_confusion_with_the_most_points(tmp_path):
    reference = np.repeat([0, 0, 1, 1], [90, 10, 60, 40])
    prediction = np.repeat([0, 1, 0, 1], [90, 10, 60, 40])
    evaluation = evaluate([("a", reference, prediction)], ("roof", "tree"))
    page = read_page(
        tmp_path, ReportData("r", evaluation.class_names, evaluation=evaluation)
    )
    assert "40.0 % of its predictions are tree in the reference" in page.words
    assert "60.0 % of its points are predicted as roof" in page.words
    assert "10.0 % of its points" not in page.words


@pytest.mark.slow
def test_many_clouds_keep_the_page_below_five_megabytes(tmp_path, monkeypatch):
    # Noise is what PNG compresses worst; 3 points fill each of 600 x 600 pixels.
    monkeypatch.setattr("vl3d_lite.report.pictures._CLOUD_BYTES", 60_000)
    clouds = [make_cloud(f"{i}.laz", n=30_000, seed=i) for i in range(4)]
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=clouds))
    assert len(page.images) == 32
    assert sum(map(len, page.images)) < 60_000 * 4 / 3 + 32 * 30
    monkeypatch.setattr("vl3d_lite.report.pictures._CLOUD_BYTES", 3_000)
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=clouds))
    shown = len(page.images) // 8
    assert shown < 4
    assert f"The pictures of the last {4 - shown} clouds are omitted" in page.words


def test_missing_too_large_and_invalid_kernel_pictures_are_omitted(tmp_path):
    report = make_report(tmp_path)
    (tmp_path / "large.png").write_bytes(PNG + bytes(800_000))
    (tmp_path / "text.png").write_text("<svg>")
    names = ("none.png", "large.png", "text.png", "layer/Qend.png")
    report = ReportData("r", NAMES, kernel_images=[tmp_path / name for name in names])
    page = read_page(tmp_path, report)
    assert len(page.images) == 1
    assert "This page shows 1 of 4 pictures" in page.words


def test_a_file_name_of_invalid_text_is_replaced(tmp_path):
    clouds = [make_cloud("caf\udce9.laz")]
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=clouds))
    assert "caf?.laz" in page.words


def test_an_invalid_color_is_an_error(tmp_path):
    report = ReportData("r", NAMES, class_colors={"ground": "red;url(http://x)"})
    with pytest.raises(SpecError, match="color of class ground must be #rrggbb"):
        write_report(tmp_path / "report.html", report)
    assert not (tmp_path / "report.html").exists()


def test_no_partial_page_remains_when_a_cloud_fails(tmp_path):
    def broken():
        yield make_cloud()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_report(tmp_path / "r.html", ReportData("r", NAMES, clouds=broken()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_reports_import_neither_keras_nor_matplotlib():
    code = (
        "import sys; import vl3d_lite.report.run_page; "
        "bad = {'keras', 'tensorflow', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_the_page_names_system_and_unit_and_has_scale_bars(tmp_path):
    foot = 0.3048
    frame = Frame(np.array([0.0, 0, 0]), np.full(3, foot), "Arizona East (ft)")
    feet = make_cloud("feet.laz", frame=frame)
    plain = make_cloud("plain.laz", seed=1)
    page = read_page(tmp_path, ReportData("r", NAMES, clouds=[feet, plain]))
    assert "points; CRS Arizona East (ft), coordinates in ft; 120 m" in page.words
    assert "points; no CRS named, coordinates in m; 120 m" in page.words
    # 120 m are 394 feet; views from above have an arrow, cross-sections have none.
    assert len(re.findall("100 ft N ↑", page.words)) == 4
    assert len(re.findall("20 m N ↑", page.words)) == 4
    assert page.words.count("N ↑") == 8
    start = re.search(r"extends from ([\d.]+) to", page.words)[1]
    assert float(start) == pytest.approx(700_000 / foot, abs=400)


@pytest.mark.slow
def test_outside_the_domain_confidence_is_called_a_ranking(tmp_path):
    outside = {"<i>.laz": ["density (points/m2)", "color"]}
    words = read_page(tmp_path, make_report(tmp_path, outside_domain=outside)).words
    assert "<i>.laz lies outside the domain of the model" in words
    assert "(density (points/m2), color)" in words
    assert "Of <i>.laz confidence is a ranking, not a probability." in words
    (tmp_path / "plain").mkdir()
    plain = read_page(tmp_path / "plain", make_report(tmp_path / "plain")).words
    assert "ranking" not in plain
