"""Commands that carry out the stages: demo, run, and each stage by itself."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli_app import app, execute_stage
from flows.cli_options import (
    DEFAULT_STORE,
    DirectOption,
    ExtractionOptions,
    FileOption,
    JsonOption,
    PipelineOptions,
    RecursiveOption,
    StoreOption,
    TextOptions,
    nested_settings,
)
from flows.cli_output import (
    SegmentForm,
    exit_code,
    print_evaluation,
    print_facts,
    print_json,
    print_outcomes,
    print_predictions,
    print_segments,
    print_texts,
    progress_bars,
    say_outcomes,
    segments_for_json,
)

_NO_FILE = FileOption()
_NO_EXTRACTION = ExtractionOptions()
_NO_TEXT = TextOptions()
_NO_OPTIONS = PipelineOptions()


@app.command
def demo(
    *,
    store: StoreOption = DEFAULT_STORE,
    data: Path = Path("factseg-demo"),
    pretrained: Annotated[bool, Parameter(negative="")] = False,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Draw a small data set, run the whole chain on it, and segment one new video.

    Never downloads: weights come from the cache, else they are seeded random numbers, which is said wherever a
    result made from them is shown.

    Example: factseg demo

    Args:
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        data: Folder for the drawn videos and labels.
        pretrained: Insist on real weights; download them where a hub can be reached.
        direct: Call the plain functions instead of the Prefect flows.
        json: Print JSON on standard output.
    """
    from flows.demo import run_demo

    with progress_bars():
        report, segmented = run_demo(data=data, store=store, pretrained=pretrained, direct=direct)
    say_outcomes(report)
    say_outcomes(segmented)
    if json:
        print_json({"pipeline": dict(report.facts), "segmented": segments_for_json(segmented, store=store)})
    else:
        print_segments(segmented, store=store, form="table")
        print_evaluation(report.facts["evaluate"])
    return max(exit_code(report), exit_code(segmented))


@app.command
def extract(
    videos: list[str],
    /,
    *,
    recursive: RecursiveOption = False,
    store: StoreOption = DEFAULT_STORE,
    extraction: ExtractionOptions = _NO_EXTRACTION,
    limit: int | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    table: Path | None = None,
    show_predictions: Annotated[bool, Parameter(negative="")] = False,
    class_names: Path | None = None,
    video_cache_gib: float | None = None,
    file: FileOption = _NO_FILE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Decode videos once and store the features they do not have yet.

    Example: factseg extract videos --features i3d-rgb:stride=8,clip:stride=4

    Args:
        videos: Video files, folders whose files are taken, and URLs such as s3://bucket/videos/a.mp4.
        recursive: Take the files of deeper folders too.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        limit: Look at no more than the first so many files.
        dry_run: Say what would be made, and make nothing.
        table: Folder for the final table as extract.parquet and extract.json; 'tables' in the store unless given.
        show_predictions: Print the Kinetics classes that I3D sees in each video.
        class_names: File of the 400 class names, one a line; looked for beside the weights unless given.
        video_cache_gib: GiB of this machine's disk that videos fetched from URLs may take together; 20 unless given.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from pipeline.settings import ExtractSettings

    values = nested_settings(
        file,
        store=store,
        videos=videos,
        recursive=recursive or None,
        extraction=extraction,
        limit=limit,
        dry_run=dry_run or None,
        table=table,
        show_predictions=show_predictions or None,
        class_names=class_names,
        video_cache_gib=video_cache_gib,
    )
    report = execute_stage("extract", ExtractSettings, values, direct=direct)
    print_outcomes(report, as_json=json)
    print_predictions(report, as_json=json)
    return exit_code(report)


@app.command
def embed(
    *,
    mapping: Path | None = None,
    dataset: str | None = None,
    store: StoreOption = DEFAULT_STORE,
    text: TextOptions = _NO_TEXT,
    extraction: ExtractionOptions = _NO_EXTRACTION,
    file: FileOption = _NO_FILE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Store the text embedding of every class, and say which were there already.

    Example: factseg embed --mapping mapping.txt

    Args:
        mapping: File of lines '<id> <class name>'.
        dataset: Name of an imported data set, instead of a mapping.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from pipeline.settings import EmbedSettings

    values = nested_settings(
        file, store=store, mapping=mapping, imported=dataset, text=text, extraction=extraction
    )
    report = execute_stage("embed-text", EmbedSettings, values, direct=direct)
    print_texts(report, as_json=json)
    return exit_code(report)


@app.command
def train(
    *,
    options: PipelineOptions = _NO_OPTIONS,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Train a model on features that `factseg extract` stored.

    Example: factseg train --videos v --labels l --mapping mapping.txt --splits s

    Args:
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from flows.torchrun import is_helper
    from pipeline.settings import RunSettings

    report = execute_stage("train", RunSettings, options.nested(store=store), direct=direct)
    if not is_helper():
        print_facts(report, as_json=json)
    return exit_code(report)


@app.command(name="run")
def run_pipeline(
    *,
    options: PipelineOptions = _NO_OPTIONS,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """From videos and labels to features, a trained model, scores, a report and a champion.

    Example: factseg run --videos v --labels l --mapping mapping.txt --splits s

    Args:
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        direct: Call the plain functions instead of the Prefect flows.
        json: Print JSON on standard output.
    """
    from pipeline.settings import RunSettings

    report = execute_stage("full-pipeline", RunSettings, options.nested(store=store), direct=direct)
    if json:
        print_json(dict(report.facts))
    else:
        print_evaluation(report.facts["evaluate"])
    return exit_code(report)


@app.command
def segment(
    videos: list[str],
    /,
    *,
    recursive: RecursiveOption = False,
    out: Path | None = None,
    model: str | None = None,
    run: str | None = None,
    labels: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    text_model: str | None = None,
    i3d_rgb: Path | None = None,
    i3d_flow: Path | None = None,
    clip_pretrained: str | None = None,
    device: str | None = None,
    on_corrupt: str | None = None,
    video_cache_gib: float | None = None,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
    csv: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say which action is done when in new videos. No labels are needed.

    Example: factseg segment new.mp4

    Args:
        videos: Video files, folders whose files are taken, and URLs such as s3://bucket/videos/a.mp4.
        recursive: Take the files of deeper folders too.
        out: Folder for JSON, CSV, WebVTT and a page of each video, besides what is printed.
        model: Name of the model in the registry, where the store has several.
        run: Key of a run, or its first digits, instead of the champion.
        labels: Labels to choose from instead of the classes of training, such as --labels 'open the box' 'close it'.
        text_model: For --labels, where the model was trained with texts of 'all-MiniLM-L6-v2' or
            'sentence-transformers:FOLDER': the same again.
        i3d_rgb: Weights of the RGB stream of I3D, where they are not in the cache.
        i3d_flow: Weights of the optical-flow stream of I3D, where they are not in the cache.
        clip_pretrained: Tag of open_clip, or folder, of the CLIP weights the model was trained on; 'openai' unless
            given.
        device: 'auto' (unless given), 'cpu', 'cuda:0', ...
        on_corrupt: 'fail' (unless given), or 'keep-decodable': segment the frames before the first damage of a video.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        video_cache_gib: GiB of this machine's disk that videos fetched from URLs may take together; 20 unless given.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
        csv: Print CSV on standard output.
    """
    from pipeline.errors import SettingsError
    from pipeline.settings import SegmentSettings

    if json and csv:
        raise SettingsError("--json and --csv exclude each other; give one.")
    values = nested_settings(
        _NO_FILE,
        store=store,
        videos=videos,
        recursive=recursive or None,
        out=out,
        model=model,
        run=run,
        labels=labels,
        text_model=text_model,
        i3d_rgb=i3d_rgb,
        i3d_flow=i3d_flow,
        clip_pretrained=clip_pretrained,
        device=device,
        on_corrupt=on_corrupt,
        video_cache_gib=video_cache_gib,
    )
    report = execute_stage("segment", SegmentSettings, values, direct=direct)
    form: SegmentForm = "json" if json else "csv" if csv else "table"
    print_segments(report, store=store, form=form)
    return exit_code(report)
