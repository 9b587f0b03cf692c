"""Pictures of clouds, disagreements and kernels, embedded in a page."""


# Base64 makes 4 bytes of 3; with plots and text the page stays below 5 MB.
_TOP_VIEW_BYTES = 2_400_000
_KERNEL_BYTES = 700_000
_DRAWN_PLACES = 10  # three pictures of at most 160 pixels: 100 kB on the page
_CONFIDENT_PLACES = 30
_STEPS = (1, 2, 3, 4, 6, 8)
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class CloudView:
    """A classified cloud, to be seen from above.

    Args:
        name: What the page calls it.
        xyz: ``(n, 3)`` float64, meters.
        prediction: ``(n,)`` int, class index.
        reference: ``(n,)`` int, class index or -1; None where there is none.
        confidence: ``(n,)`` float in [0, 1], or None.
        origin: ``(3,)`` float64; with it `xyz` are the file's coordinates.
        coverage: Points by how they got their class, for instance
            ``{"voted": 9900, "filled from nearest": 100}``.
    """

    name: str
    xyz: np.ndarray
    prediction: np.ndarray
    reference: np.ndarray | None = None
    confidence: np.ndarray | None = None
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    coverage: Mapping[str, int] = field(default_factory=dict)


def _read_clouds(
    report: ReportData, colors: Sequence[str]
) -> tuple[list[dict], np.ndarray, list[dict]]:
    clouds, predicted = [], np.zeros(len(report.class_names), np.int64)
    places = [
        {"place": place, "pictures": []} for place in report.places[:_DRAWN_PLACES]
    ]
    for cloud in report.clouds:
        predicted += np.bincount(cloud.prediction, minlength=len(predicted))
        entry = {
            "name": cloud.name,
            "points": len(cloud.xyz),
            "coverage": dict(cloud.coverage),
            "pictures": [],
        }
        if len(cloud.xyz):
            view, cut = TopView.of(cloud.xyz), CrossSection.through(cloud.xyz)
            entry["pictures"] = _draw(cloud, view, report.class_names, colors)
            entry["pictures"] += _draw_cut(cloud, cut, report.class_names, colors)
            entry["cut"] = _cut_facts(cloud, cut)
            entry["extent"] = tuple(np.ptp(cloud.xyz[:, :2], axis=0))
            entry["pixel"] = view.pixel_size
        for drawn in places:
            if drawn["place"].cloud == cloud.name and cloud.reference is not None:
                drawn["pictures"] = _draw_place(cloud, drawn["place"], report, colors)
        clouds.append(entry)
    return clouds, predicted, places


def _draw_place(
    cloud: CloudView, place: Disagreement, report: ReportData, colors: Sequence[str]
) -> list[dict]:
    pictures = draw_place(
        place,
        cloud.xyz,
        cloud.reference,
        cloud.prediction,
        report.class_names,
        colors,
        origin=cloud.origin,
        distance=report.link_distance,
    )
    return [_embedded(picture, picture.png()) for picture in pictures]


def _draw(
    cloud: CloudView, view: TopView, names: Sequence[str], colors: Sequence[str]
) -> list[Picture]:
    pictures = [draw_classes(view, "Prediction", cloud.prediction, names, colors)]
    if cloud.reference is not None and (cloud.reference >= 0).any():
        pictures.insert(
            0, draw_classes(view, "Reference", cloud.reference, names, colors)
        )
        pictures.append(draw_errors(view, cloud.reference, cloud.prediction))
    if cloud.confidence is not None:
        pictures.append(draw_confidence(view, cloud.confidence, len(names)))
    return pictures


def _draw_cut(
    cloud: CloudView, cut: CrossSection, names: Sequence[str], colors: Sequence[str]
) -> list[Picture]:
    slim = replace(
        cloud,
        prediction=cloud.prediction[cut.points],
        reference=None if cloud.reference is None else cloud.reference[cut.points],
        confidence=None if cloud.confidence is None else cloud.confidence[cut.points],
    )
    return [
        replace(picture, title=f"{picture.title}, cut along {'xy'[cut.along]}")
        for picture in _draw(slim, cut.view, names, colors)
    ]


def _cut_facts(cloud: CloudView, cut: CrossSection) -> dict:
    """Where a cut lies, in the coordinates of the file."""
    places = cloud.xyz[cut.points, cut.along] + cloud.origin[cut.along]
    return {
        "along": "xy"[cut.along],
        "across": "yx"[cut.along],
        "place": (cut.middle + cloud.origin)[1 - cut.along],
        "start": places.min(),
        "end": places.max(),
        "thickness": cut.thickness,
    }


def _embed_pictures(clouds: list[list[Picture]]) -> tuple[list[list[dict]], int]:
    """Encode as finely as the page's size allows; say how many clouds lost theirs."""
    for step in _STEPS:
        encoded = [[picture.png(step) for picture in pictures] for pictures in clouds]
        if sum(len(png) for pngs in encoded for png in pngs) <= _TOP_VIEW_BYTES:
            break
    embedded, left_out, room = [], 0, _TOP_VIEW_BYTES
    for pictures, pngs in zip(clouds, encoded, strict=True):
        room -= sum(map(len, pngs))
        left_out += room < 0
        embedded.append(
            [
                _embedded(picture, png)
                for picture, png in zip(pictures, pngs, strict=True)
                if room >= 0
            ]
        )
    return embedded, left_out


def _embedded(picture: Picture, png: bytes) -> dict:
    return {
        "title": picture.title,
        "source": _data_uri(png),
        "legend": picture.legend,
    }


def _read_kernels(paths: Sequence[Path]) -> list[dict]:
    kernels, room = [], _KERNEL_BYTES
    for path in map(Path, paths):
        png = path.read_bytes() if path.is_file() else b""
        if png.startswith(_PNG) and len(png) <= room:
            room -= len(png)
            title = f"{path.parent.name}/{path.name}"
            kernels.append({"title": title, "source": _data_uri(png)})
    return kernels


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


