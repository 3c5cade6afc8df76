"""insta-rtdetr models: the table, downloads and checks."""

import pytest

from insta_rtdetr.zoo import config_files, published_files
from insta_rtdetr.zoo.__main__ import main
from insta_rtdetr.zoo.cache import cached_path

CONTENT = b"weights" * 1_000


def names(capsys, *arguments: str) -> list[str]:
    """Of the table's lines."""
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[0] for line in lines[2:-1]]


def line_of(capsys, name: str) -> str:
    assert main([name]) == 0
    return capsys.readouterr().out.splitlines()[2]


def fails(capsys, arguments: list[str], *parts: str) -> None:
    assert main(arguments) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    for part in parts:
        assert part in line, line


def test_the_table_has_all_configs(capsys, cache):
    assert names(capsys) == sorted(config_files())
    assert names(capsys, "--all")[: len(config_files())] == sorted(config_files())
    assert set(names(capsys, "--all")) == {*config_files(), *published_files()}


def test_a_line_says_what_there_is_to_know(capsys, cache):
    line = " ".join(line_of(capsys, "insta_rtdetr_R50vd_D6_640").split())
    assert line == "insta_rtdetr_R50vd_D6_640 42.5 50.2 43.88 82.7 640 x 640 ResNet-50-vd not cached, 704 MB Apache-2.0"
    assert "none published" in line_of(capsys, "insta_rtdetr_R18vd_D3_640")
    assert "in this package" in line_of(capsys, "quickstart_MNV2_D3_256")


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["RFDETR_seg_n", "quickstart"], ["quickstart_MNV2_D3_256", "rfdetr_seg_nano_312"]),
        (["rfdetr_seg_?a*_*"], ["rfdetr_seg_large_504", "rfdetr_seg_nano_312"]),
        (["mask_rtdetr", "--max-parameters", "18.76"], ["mask_rtdetr_hgnetv2_m_640", "mask_rtdetr_hgnetv2_s_640"]),
        (["mask_rtdetr", "--max-gflops", "24.2"], ["mask_rtdetr_hgnetv2_s_640"]),
    ],
)
def test_names_and_sizes_filter(capsys, cache, arguments, wanted):
    assert names(capsys, *arguments) == wanted


def test_files_of_no_known_size_keep_to_no_limit(capsys, cache):
    assert names(capsys, "--all", "resnet50d", "--max-parameters", "1000") == []
    assert names(capsys, "--all", "resnet50d") == ["resnet50d_timm"]


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["yolact"], ["No name matches yolact.  The nearest is ", "--all"]),
        # Parts of names are not enough where they might mean gigabytes.
        (["--download", "rfdetr_seg"], ["No name matches rfdetr_seg.  The nearest is rfdetr_seg_"]),
        (["--max-gflops", "few"], ["--max-gflops", "few", "--help"]),
    ],
)
def test_bad_input_is_one_line(capsys, cache, arguments, parts):
    fails(capsys, arguments, *parts)


def test_weights_are_downloaded_listed_and_checked(capsys, publish):
    published = publish("rfdetr_seg_nano_312", CONTENT)
    other = publish("rfdetr_seg_small_384", CONTENT, checksum="")
    assert main(["--download", "*_nano_312", other.name]) == 0
    files = {published.name: cached_path(published), other.name: cached_path(other)}
    assert capsys.readouterr().out == "".join(f"{name}: {file}\n" for name, file in files.items())
    assert "cached, 0 MB" in line_of(capsys, published.name)

    assert main(["--verify"]) == 0
    told = capsys.readouterr().out
    assert f"{published.name}: as the authors' checksum says" in told and "2 files in" in told
    assert f"{other.name}: as the checksum of its download says" in told

    cached_path(other).write_bytes(CONTENT[:-1] + b"!")
    assert main(["--verify"]) == 1
    assert f"{other.name}: has the sha256" in capsys.readouterr().out
    assert main(["--verify", published.name]) == 0


def test_a_begun_download_is_listed(capsys, publish, server, monkeypatch):
    monkeypatch.setattr("insta_rtdetr.zoo.download.PAUSES_SECONDS", ())
    published = publish("rfdetr_seg_nano_312", CONTENT * 1_000)
    server.cuts = [2_000_000, 0]
    fails(capsys, ["--download", published.name], "cut after 2000000 of 7000000 bytes", str(cached_path(published)))
    assert "2 MB downloaded of 7 MB" in line_of(capsys, published.name)
