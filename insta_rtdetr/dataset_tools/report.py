"""Writing the results of a dataset check as files: check_dataset_result.json and report.html."""

import html
import json
from pathlib import Path

from insta_rtdetr.atomic import write_text

from .check import DatasetCheck, SplitCheck
from .overlay import sample_images
from .statistics import analyse

RESULT_NAME, PAGE_NAME = "check_dataset_result.json", "report.html"
SAMPLES_A_SPLIT = 8
CLASSES_SHOWN = 40

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222; }
h1 { margin-bottom: 0; } h2 { border-bottom: 2px solid #ddd; margin-top: 1.6em; } h3 { margin: 0 0 .4em; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .25em .8em .25em 0; vertical-align: top; }
.FAIL, .ok, .note { font-weight: 600; } .FAIL { color: #b00020; } .ok { color: #1b7a34; } .note { color: #8a6100; }
.charts { columns: 270px; column-gap: 2em; } .charts > div { break-inside: avoid; padding-bottom: 1.2em; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 2px .6em; font-size: 13px; }
.bars i { background: #4c7bd9; height: 1em; min-width: 1px; align-self: center; } .bars b { font-weight: 400; }
.bars span { overflow-wrap: anywhere; max-width: 12em; }
.samples { display: flex; flex-wrap: wrap; gap: 1em; } figure { margin: 0; } figure img { display: block; }
figcaption { font-size: 12px; color: #666; max-width: 360px; overflow-wrap: anywhere; }
code { background: #f3f3f3; padding: 0 .3em; overflow-wrap: anywhere; }
"""


def write_report(check: DatasetCheck, out: Path) -> tuple[Path, Path]:
    """Write both files to a folder, which is made if it does not exist.

    Returns:
        the JSON file and the HTML page.
    """
    analysis = analyse(check)
    files = out / RESULT_NAME, out / PAGE_NAME
    write_text(files[0], json.dumps(result(check, analysis), indent=2, ensure_ascii=False))
    write_text(files[1], page(check, analysis))
    return files


def result(check: DatasetCheck, analysis: dict[str, dict]) -> dict:
    """Return the content of check_dataset_result.json, whose keys follow PaddleX's file of that name."""
    class_names = next((split.class_names for split in check.splits if split.class_names), {})
    attributes = {"num_classes": len(class_names), "class_names": list(class_names.values())}
    for split in check.splits:
        attributes[f"{split.name}_samples"] = len(split.tasks)
        attributes[f"{split.name}_sample_paths"] = [task.file for task in split.tasks[:SAMPLES_A_SPLIT]]
    return {
        "done_flag": True,
        "check_pass": check.passes,
        "attributes": attributes,
        "analysis": analysis,
        "findings": [line for split in check.splits for line in split.problems.as_dicts(split.name)],
        "dataset_path": str(check.folder),
        "show_type": "image",
        "dataset_type": "COCOInstSegDataset",
    }


def page(check: DatasetCheck, analysis: dict[str, dict]) -> str:
    """Return the report as one HTML page that needs no other file."""
    verdict = '<span class="ok">can be trained on</span>' if check.passes else '<span class="FAIL">needs mending</span>'
    sections = [_section(split, analysis[split.name]) for split in check.splits]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Dataset check: {html.escape(check.folder.name)}</title><style>{STYLE}</style></head><body>"
        f"<h1>Dataset check: {html.escape(check.folder.name)}</h1>"
        f"<p><code>{html.escape(str(check.folder))}</code> {verdict}</p>"
        f"<h2>Findings</h2><table>{_finding_rows(check)}</table>{''.join(sections)}</body></html>\n"
    )


def _finding_rows(check: DatasetCheck) -> str:
    return "".join(
        f'<tr><td class="{line.status}">{line.status}</td><td>{html.escape(line.text)}'
        + (f"<br><small>{html.escape(line.remedy)}</small>" if line.remedy else "")
        + "</td></tr>"
        for line in check.findings()
    )


def _section(split: SplitCheck, analysis: dict) -> str:
    if not split.tasks:
        return ""
    classes = dict(list(analysis["class_counts"].items())[:CLASSES_SHOWN])
    title = f"Objects of each class, {len(classes)} of {len(split.class_names)}"
    histograms = [
        bars(title if len(classes) < len(split.class_names) else "Objects of each class", classes),
        bars("Objects in an image", analysis["objects_per_image"]),
        bars("Side of an object, √area in pixels", analysis["object_sizes"]),
        bars("Objects by COCO's sizes", analysis["object_areas_of_coco"]),
        bars("Long side of an image, pixels", analysis["image_sizes"]),
    ]
    figures = "".join(
        f'<figure><img src="{url}" alt=""><figcaption>{html.escape(name)}</figcaption></figure>'
        for name, url in sample_images(split.tasks, split.class_names, SAMPLES_A_SPLIT)
    )
    return (
        f"<h2>{html.escape(split.name)}: {analysis['images']} images, {analysis['objects']} objects</h2>"
        f'<div class="charts">{"".join(histograms)}</div><h3 style="margin-top:1em">Samples</h3>'
        f'<div class="samples">{figures}</div>'
    )


def bars(title: str, counts: dict[str, int]) -> str:
    """Return the HTML of a histogram of horizontal bars."""
    largest = max(counts.values(), default=0) or 1
    rows = "".join(
        f'<span>{html.escape(label)}</span><i style="width:{100 * count / largest:.1f}%"></i><b>{count}</b>'
        for label, count in counts.items()
    )
    return f'<div><h3>{html.escape(title)}</h3><div class="bars">{rows}</div></div>'
